"""Data for Emu3.5's tasks in published layouts becomes documents of its prompts, answers and pictures."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from task_documents import BLUE, RED, TOKENIZER, VOCAB, chat_import, film, said

from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.imports.chat import import_chats
from reelmill.pipelines.imports.trajectories import movement
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize import vision
from reelmill.tokenize.documents import Thought, Visual, task_document
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus


@pytest.fixture
def how(tmp_path):
    return chat_import(tmp_path)


def lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_our_own_layout_writes_the_document_of_the_task_to_the_id(tmp_path, how):
    row = {"task": "x2i", "question": "make it blue", "images": ["red.png"], "answer": [
        {"thought": "cold"}, {"text": "So:"}, {"image": "blue.png"}]}  # fmt: skip
    source = lines(tmp_path / "rows.jsonl", [row])
    prompt = "You are a helpful assistant for x2i task. USER: 3*4make it blue ASSISTANT: "
    assert said(source, tmp_path / "out", replace(how, task_layout="tasks")) == [(prompt, ["cold", "So:", "3*4"])]
    assert not verify(RunFolder(tmp_path / "out")).problems
    corpus = Corpus([tmp_path / "out"], "default", DataConfig(heldout=0.0))
    (tokens,) = corpus.read(np.arange(1))
    red, blue = (
        np.asarray(TOKENIZER.encode_image(np.asarray(Image.open(tmp_path / name)))) for name in ("red.png", "blue.png")
    )
    whole = task_document(VOCAB, "x2i", "make it blue", [Thought("cold"), "So:", Visual(blue)], [Visual(red)])
    assert tokens.tolist() == whole.tokens.tolist()


@pytest.mark.parametrize(
    "row",
    [
        {"source_image": "red.png", "target_image": "blue.png", "instruction": "blue"},
        {"input": "red.png", "output": "blue.png", "instruction": "blue", "instruction_type": "original"},
        {"input_images": ["red.png", "blue.png"], "output_image": "blue.png", "prompt": "blue"},
    ],
)
def test_edits_in_their_publishers_spellings(tmp_path, how, row):
    found = said(lines(tmp_path / "e.jsonl", [row]), tmp_path / "out", replace(how, task_layout="edits"))
    before = "3*43*4" if "input_images" in row else "3*4"
    assert found == [(f"You are a helpful assistant for x2i task. USER: {before}blue ASSISTANT: ", ["3*4"])]


def test_edits_with_their_pictures_inside_parquet(tmp_path, how):
    def picture(colour):
        stream = io.BytesIO()
        Image.new("RGB", (16, 12), colour).save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None}

    rows = [{"omni_edit_id": "1", "task": "attribute", "src_img": picture(RED), "edited_img": picture(BLUE),
             "edited_prompt_list": ["blue", "Make it blue."]}]  # fmt: skip
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "train-0.parquet")
    found = said(tmp_path / "data", tmp_path / "out", replace(how, task_layout="edits"))
    assert found == [("You are a helpful assistant for x2i task. USER: 3*4blue ASSISTANT: ", ["3*4"])]


def test_steps_of_articles_and_of_visualhow(tmp_path, how):
    article = {"title": "Fold a boat", "steps": [{"text": "Halve it.", "image": "red.png"}, {"text": "Turn."}]}
    problem = {"problem_title": "Fold a boat", "step_list": ["Halve it."], "image_url": ["https://w.org/i/red.png"]}
    prompt = (
        "You are a helpful assistant for howto task. Please generate a response with interleaved text and images. "
        "USER: Fold a boat ASSISTANT: "
    )
    how = replace(how, task_layout="howto")
    found = said(lines(tmp_path / "a.jsonl", [article]), tmp_path / "one", how)
    assert found == [(prompt, ["Step 1: Halve it.", "3*4", "Step 2: Turn."])]
    (tmp_path / "v.json").write_text(json.dumps({"033313_0": problem}))
    assert said(tmp_path / "v.json", tmp_path / "two", how) == [(prompt, ["Step 1: Halve it.", "3*4"])]


def turned(degrees):
    angle = np.radians(degrees)
    pose = np.eye(4)
    pose[0, 0] = pose[2, 2] = np.cos(angle)
    pose[0, 2], pose[2, 0] = np.sin(angle), -np.sin(angle)
    return pose


def test_what_a_camera_did_is_said_in_its_own_frame():
    ahead = np.eye(4)
    ahead[2, 3] = 0.5
    assert movement(np.eye(4), ahead) == "move forward 0.5"
    assert movement(ahead, np.eye(4)) == "move back 0.5"
    assert movement(turned(90), turned(90) @ ahead) == "move forward 0.5"
    assert movement(np.eye(4), turned(-30)) == "turn left 30 degrees"
    assert movement(turned(10), turned(25)) == "turn right 15 degrees"
    assert movement(ahead, ahead) == "stay"


def test_a_walk_is_cut_into_rows_that_begin_where_the_last_one_ended(tmp_path, how):
    walks = tmp_path / "walks"
    walks.mkdir()
    film(walks / "street.mp4", 48)
    np.save(walks / "street.npy", np.stack([turned(1.25 * n) for n in range(48)]))
    (walks / "street.txt").write_text("A street in rain.\n")
    found = said(walks, tmp_path / "out", replace(how, pictures=walks, task_layout="walks"))
    prompt = "You are a helpful assistant for explore task. USER: A street in rain.3*4 ASSISTANT: "
    step = ["turn right 5 degrees", "3*4"]
    assert found == [(prompt, step * 8), (prompt, step * 3)]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_walk_as_sekai_publishes_it(tmp_path, how, save):
    """`extrinsic` takes the camera to a world whose y axis points up, so the first pose turns it over."""
    walks, table = tmp_path / "sekai-game-walking", tmp_path / "train/sekai-game-walking.csv"
    walks.mkdir()
    table.parent.mkdir()
    film(walks / "00100_0000_0300.mp4", 48)
    over = np.diag([1.0, -1.0, -1.0, 1.0])
    poses = np.stack([over @ turned(-1.25 * n) for n in range(48)]).astype(np.float32)
    camera = np.array([[0.6, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]], np.float32)
    save(walks / "00100_0000_0300.npz", intrinsic=camera, extrinsic=poses)
    table.write_text(
        "videoFile,cameraFile,caption,location\n"
        "other.mp4,other.npz,Another.,x\n"
        '00100_0000_0300.mp4,00100_0000_0300.npz,"A lane,\nat dusk.",y\n'
    )
    found = said(walks, tmp_path / "out", replace(how, pictures=walks, task_layout="walks"))
    prompt = "You are a helpful assistant for explore task. USER: A lane,\nat dusk.3*4 ASSISTANT: "
    step = ["turn left 5 degrees", "3*4"]
    assert found == [(prompt, step * 8), (prompt, step * 3)]


def bomb(path):
    """A header that promises a terabyte."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**33, 4, 4)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("extrinsic.npy", stream.getvalue() + bytes(1000))


@pytest.mark.parametrize(
    "write",
    [
        bomb,
        lambda path: path.write_bytes(b"PK no archive"),
        lambda path: np.savez(path, intrinsic=np.eye(3)),
        lambda path: np.savez(path, extrinsic=np.array(["a", {}], dtype=object)),
        lambda path: np.savez(path, extrinsic=np.full((3, 4, 4), np.nan)),
        lambda path: np.savez(path, extrinsic=np.eye(4)),
        lambda path: np.savez(path, extrinsic=np.zeros((3, 4, 4), dtype="U3")),
    ],
)
def test_a_file_of_no_poses_is_named(tmp_path, how, write):
    walks = tmp_path / "walks"
    walks.mkdir()
    film(walks / "street.mp4", 8)
    write(walks / "street.npz")
    with pytest.raises(DataError, match=r"street\.npz holds no "):
        import_chats(walks, tmp_path / "out", replace(how, pictures=walks, task_layout="walks"), print)


def test_episodes_of_a_robot_are_pictures_and_actions(tmp_path, how):
    robot = tmp_path / "robot"
    for name in ("meta", "data/chunk-000", "videos/chunk-000/observation.images.top"):
        (robot / name).mkdir(parents=True)
    info = {"codebase_version": "v2.1", "fps": 8, "chunks_size": 1000,
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
            "features": {"observation.images.top": {"dtype": "video"}, "action": {"dtype": "float32"}}}  # fmt: skip
    (robot / "meta/info.json").write_text(json.dumps(info))
    (robot / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "stack the blocks"}))
    lines(robot / "meta/episodes.jsonl", [{"episode_index": 0, "tasks": ["stack the blocks"], "length": 12}])
    actions = [[n / 10, -0.5] for n in range(12)]
    pq.write_table(pa.table({"action": actions}), robot / "data/chunk-000/episode_000000.parquet")
    film(robot / "videos/chunk-000/observation.images.top/episode_000000.mp4", 12)
    found = said(robot, tmp_path / "out", replace(how, pictures=robot, task_layout="lerobot"))
    prompt = "You are a helpful assistant for vla task. USER: stack the blocks3*4 ASSISTANT: "
    assert found == [(prompt, ["0.15 -0.50", "3*4", "0.55 -0.50", "3*4"])]


def test_a_hostile_robot_leads_nowhere(tmp_path, how):
    robot = tmp_path / "robot"
    (robot / "meta").mkdir(parents=True)
    pq.write_table(pa.table({"action": [[0.5]] * 20}), tmp_path / "outside.parquet")
    how = replace(how, pictures=robot, task_layout="lerobot")
    lines(robot / "meta/tasks.jsonl", [{"task_index": 0, "task": "x"}])
    for number, (change, episode, problem) in enumerate(
        [({"data_path": "../outside.parquet"}, {"episode_index": 0}, "outside of the folder"),
         ({"data_path": "{episode_index.__class__}"}, {"episode_index": 0}, "cannot be read"),
         ({"data_path": "{secret}"}, {"episode_index": 0}, "the field 'secret'"),
         ({}, {"tasks": ["x"]}, "episode_index"),
         ({"fps": 0}, {"episode_index": 0}, "version 2"),
         ({"features": [1]}, {"episode_index": 0}, "version 2")]
    ):  # fmt: skip
        info = {"fps": 8, "chunks_size": 10, "data_path": "none.parquet", "video_path": "v.mp4",
                "features": {"top": {"dtype": "video"}}, **change}  # fmt: skip
        (robot / "meta/info.json").write_text(json.dumps(info))
        lines(robot / "meta/episodes.jsonl", [episode])
        with pytest.raises(DataError, match=problem):
            import_chats(robot, tmp_path / f"out{number}", how, print)
    (robot / "meta/episodes.jsonl").write_text("{")
    (robot / "meta/info.json").write_text(json.dumps({**info, "features": {"top": {"dtype": "video"}}}))
    with pytest.raises(DataError, match="is no JSON"):
        import_chats(robot, tmp_path / "last", how, print)


def test_bad_rows_and_tokenizers_with_a_time_axis_are_named(tmp_path, how):
    edits = replace(how, task_layout="edits")
    for number, (row, problem) in enumerate(
        [({"source_image": "red.png", "instruction": "x"}, "has none of target_image"),
         ({"source_image": "red.png", "target_image": 3, "instruction": "x"}, "a picture is a name"),
         ({"source_image": "../red.png", "target_image": "red.png", "instruction": "x"}, "there is no picture"),
         ({"source_image": "red.png", "target_image": "red.png", "instruction": [3]}, "no text"),
         ([], "a row is a JSON object")]
    ):  # fmt: skip
        with pytest.raises(DataError, match=problem):
            import_chats(lines(tmp_path / f"{number}.jsonl", [row]), tmp_path / f"out{number}", edits, print)
    with pytest.raises(ConfigError, match="no task layout 'edit'; did you mean 'edits'"):
        import_chats(tmp_path / "0.jsonl", tmp_path / "no", replace(how, task_layout="edit"), print)
    xs = vision.load("reelmill-tok-xs")
    with pytest.raises(ConfigError, match="without a time axis"):
        wrong = replace(edits, tokenizer=xs, tokenizer_name="reelmill-tok-xs", vocab=Vocabulary("bytes", xs.codes))
        import_chats(tmp_path / "0.jsonl", tmp_path / "no", wrong, print)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        import_chats(tmp_path / "bad.parquet", tmp_path / "no", edits, print)
    with pytest.raises(ConfigError, match="no walks at"):
        import_chats(tmp_path, tmp_path / "no", replace(how, task_layout="walks"), print)
