"""Robots' episodes as LeRobot 3 and TensorFlow Datasets publish them become documents of task vla."""

import contextlib
import io
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from task_documents import chat_import, film, said
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.imports.chat import import_chats
from reelmill.pipelines.imports.chat_rows import Frame
from reelmill.pipelines.imports.lerobot import lerobot_rows
from reelmill.pipelines.imports.rlds import rlds_files
from reelmill.pipelines.imports.tfrecord import crc32c, example, masked, records

CAMERA = "observation.images.top"


@pytest.fixture
def how(tmp_path):
    return chat_import(tmp_path)


def lerobot(folder, episodes, *, fps=8):
    """A folder of version 3 with these episodes, each (task, seconds at which it begins in the video, actions)."""
    for name in ("meta/episodes/chunk-000", "data/chunk-000", f"videos/{CAMERA}/chunk-000"):
        (folder / name).mkdir(parents=True)
    info = {"codebase_version": "v3.0", "fps": fps, "chunks_size": 1000,
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            "features": {CAMERA: {"dtype": "video"}, "action": {"dtype": "float32"}}}  # fmt: skip
    (folder / "meta/info.json").write_text(json.dumps(info))
    pq.write_table(pa.table({"task_index": [0], "task": ["stack"]}), folder / "meta/tasks.parquet")
    rows, numbers = [], {"episode_index": [], "action": []}
    for number, (task, start, actions) in enumerate(episodes):
        at = f"videos/{CAMERA}/"
        rows.append({"episode_index": number, "tasks": [task], "length": len(actions),
                     "data/chunk_index": 0, "data/file_index": 0, f"{at}chunk_index": 0, f"{at}file_index": 0,
                     f"{at}from_timestamp": start, f"{at}to_timestamp": start + len(actions) / fps})  # fmt: skip
        numbers["episode_index"] += [number] * len(actions)
        numbers["action"] += actions
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(pa.table(numbers), folder / "data/chunk-000/file-000.parquet")
    film(folder / f"videos/{CAMERA}/chunk-000/file-000.mp4", 24)
    return folder


def test_many_episodes_share_the_files_of_lerobot_3(tmp_path, how):
    first, second = [[n / 10, 0.0] for n in range(12)], [[1.0, n / 10] for n in range(9)]
    robot = lerobot(tmp_path / "robot", [("stack the blocks", 0.0, first), ("open the box", 1.5, second)])
    found = said(robot, tmp_path / "out", replace(how, pictures=robot, task_layout="lerobot"))
    prompt = "You are a helpful assistant for vla task. USER: {}3*4 ASSISTANT: "
    assert found == [
        (prompt.format("stack the blocks"), ["0.15 0.00", "3*4", "0.55 0.00", "3*4"]),
        (prompt.format("open the box"), ["1.00 0.15", "3*4", "1.00 0.55", "3*4"]),
    ]


def test_an_episode_is_seen_from_its_own_second_on(tmp_path):
    robot = lerobot(tmp_path / "robot", [("a", 0.0, [[0.0]] * 12), ("b", 1.5, [[0.0]] * 9)])
    _, row = lerobot_rows(robot, 0.5)
    ((asked, answer),) = row.turns
    frames = [part for part in (*asked, *answer) if isinstance(part, Frame)]
    assert [frame.number / frame.rate for frame in frames] == [1.5, 2.0, 2.5]
    assert {frame.name for frame in frames} == {f"videos/{CAMERA}/chunk-000/file-000.mp4"}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("data/file_index", 7, "cannot be read"),
        ("episode_index", 99, "no rows of it"),
        (f"videos/{CAMERA}/from_timestamp", -1.0, "begins at second -1"),
        (f"videos/{CAMERA}/from_timestamp", float("nan"), "begins at second nan"),
        (f"videos/{CAMERA}/from_timestamp", 60.0, "ends before"),
        (f"videos/{CAMERA}/file_index", None, "cannot be read"),
    ],
)
def test_hostile_offsets_cost_the_episode_alone(tmp_path, how, column, value, problem):
    robot = lerobot(tmp_path / "robot", [("a", 0.0, [[0.0]] * 12), ("b", 1.5, [[0.0]] * 9)])
    path = robot / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows), path)
    asked = replace(how, pictures=robot, task_layout="lerobot")
    with pytest.raises(DataError, match=problem):
        import_chats(robot, tmp_path / "out", asked, print)
    assert len(said(robot, tmp_path / "rest", replace(asked, skip_bad=True))) == 1


def test_a_folder_without_episodes_says_what_it_should_have(tmp_path, how):
    (tmp_path / "robot/meta").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"episodes/\*\*\.parquet \(version 3\)"):
        import_chats(tmp_path / "robot", tmp_path / "out", replace(how, task_layout="lerobot"), print)


def example_class():
    """tensorflow.Example of protocol buffers' own library: an encoder that is not ours."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, kind, label) in enumerate(fields, 1):
            is_message = isinstance(kind, str)
            made.field.add(
                name=field, number=number, label=label,
                type=kinds.TYPE_MESSAGE if is_message else kind,
                type_name=f".tensorflow.{kind}" if is_message else None,
            )  # fmt: skip
        return made

    one = kinds.LABEL_OPTIONAL
    lists = {"bytes": kinds.TYPE_BYTES, "float": kinds.TYPE_FLOAT, "int64": kinds.TYPE_INT64}
    for name, kind in lists.items():
        message(f"{name.title()}List", ("value", kind, kinds.LABEL_REPEATED))
    feature = message("Feature", *((f"{name}_list", f"{name.title()}List", one) for name in lists))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=kinds.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=kinds.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    features.field.add(
        name="feature", number=1, label=kinds.LABEL_REPEATED, type=kinds.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
    )  # fmt: skip
    message("Example", ("features", "Features", one))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


EXAMPLE = example_class()


def encoded(**features):
    """An Example as protocol buffers write it; `__` in a name stands for a slash."""
    made = EXAMPLE()
    for name, values in features.items():
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
        getattr(made.features.feature[name.replace("__", "/")], kind).value.extend(values)
    return made.SerializeToString()


def write_records(path, datas):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for data in datas:
            head = struct.pack("<Q", len(data))
            file.write(head + struct.pack("<I", masked_crc32c(head)) + data + struct.pack("<I", masked_crc32c(data)))
    return path


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283 and crc32c(b"") == 0  # RFC 3720, appendix B.4, has more
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43
    for size in (1, 4095, 4096, 4097, 70_001):
        data = np.random.default_rng(size).bytes(size)
        assert masked(crc32c(data)) == masked_crc32c(data), size


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(
            st.lists(st.binary(max_size=20), min_size=1, max_size=4),
            st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4),
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
        ),
        max_size=4,
    )
)
def test_examples_are_read_as_protocol_buffers_wrote_them(features):
    found = example(encoded(**{name.replace("__", "_"): values for name, values in features.items()}))
    assert {name: list(values) for name, values in found.items()} == {
        name.replace("__", "_").replace("__", "/"): values for name, values in features.items()
    }


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_no_bytes_are_more_than_no_example(data):
    with contextlib.suppress(ValueError, UnicodeDecodeError):
        example(data)


def jpeg(colour):
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (colour, 40, 40)).save(stream, "JPEG")
    return stream.getvalue()


def episode(steps=7, **more):
    features = {
        "steps__observation__image": [jpeg(20 * step) for step in range(steps)],
        "steps__observation__wrist_image": [jpeg(0)] * steps,
        "steps__action": [value for step in range(steps) for value in (step / 10, -1.0)],
        "steps__language_instruction": [b"pick up the cup"] * steps,
        "steps__is_first": [1] + [0] * (steps - 1),
    }
    return encoded(**{name: values for name, values in {**features, **more}.items() if values})


def test_episodes_of_rlds_are_pictures_and_actions(tmp_path, how):
    robot = tmp_path / "bridge/1.0.0"
    write_records(robot / "bridge-train.tfrecord-00000-of-00002", [episode()])
    parts = {"steps__action": None, "steps__action__world_vector": [0.5] * 21, "steps__action__grip": [1.0] * 7}
    words = {"steps__language_instruction": None, "steps__observation__natural_language_instruction": [b"push"] * 7}
    write_records(robot / "bridge-train.tfrecord-00001-of-00002", [episode(**parts, **words)])
    found = said(robot, tmp_path / "out", replace(how, task_layout="rlds", every=0.4))
    prompt = "You are a helpful assistant for vla task. USER: {}3*4 ASSISTANT: "
    assert found == [
        (prompt.format("pick up the cup"), ["0.05 -1.00", "3*4", "0.25 -1.00", "3*4", "0.45 -1.00", "3*4"]),
        (prompt.format("push"), ["1.00 0.50 0.50 0.50", "3*4"] * 3),
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (episode(steps__action=[0.5] * 5), "5 values, which are no numbers of 7 steps"),
        (episode(steps__action=[float("inf")] * 7), "no finite number"),
        (episode(steps__action=[b"x"] * 7), "which are no numbers"),
        (episode(steps__action=None), "no steps/action"),
        (encoded(steps__observation__image=[b"<svg/>"], steps__action=[0.5]), "no pictures under steps/observation/"),
        (zlib.compress(b"no Example"), "no Example"),
        (b"", "there is nothing"),
    ],
    # The order of a record's features is any: names are given, the same in each process.
    ids=["too few actions", "infinite", "bytes", "no actions", "no pictures", "compressed", "empty"],
)
def test_hostile_records_cost_themselves_alone(tmp_path, how, data, problem):
    write_records(tmp_path / "robot/x.tfrecord-00000-of-00001", [data, episode()])
    asked = replace(how, task_layout="rlds", every=0.4)
    with pytest.raises(DataError, match=problem):
        import_chats(tmp_path / "robot", tmp_path / "out", asked, print)
    assert len(said(tmp_path / "robot", tmp_path / "rest", replace(asked, skip_bad=True))) == 1


def test_flipped_bytes_are_told_and_a_lost_place_ends_the_file(tmp_path):
    path = write_records(tmp_path / "x.tfrecord-00000-of-00001", [b"a" * 100, b"b" * 100])
    whole = path.read_bytes()
    path.write_bytes(whole[:50] + b"x" + whole[51:])
    assert list(records(path)) == [None, b"b" * 100]
    for damaged, problem in (
        (b"\xff" + whole[1:], "byte 0: the length of a record is damaged"),
        (whole[:-1], "byte 116: the file ends within a record"),
        (whole[:-110], "the length of a record is damaged"),
        (struct.pack("<Q", 2**60) + struct.pack("<I", masked_crc32c(struct.pack("<Q", 2**60))), "in a file of 12"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=problem):
            list(records(path))
    with pytest.raises(ConfigError, match="no RLDS at"):
        rlds_files(tmp_path / "none")
