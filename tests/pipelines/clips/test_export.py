"""WebDataset shards of kept clips: what a trainer reads from them is what the run folder's samples show."""

import io
import json
import shutil
import tarfile
from itertools import groupby

import av
import datasets
import numpy as np
import pytest
from dumps import light_recipe
from PIL import Image
from rich.console import Console
from toy_run import reelmill
from videos import scene_frames, write_video

import reelmill as public
from reelmill.errors import ConfigError, DataError
from reelmill.media.reader import MediaReader
from reelmill.media.source import Source
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.clips.export import export_clips
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate


def samples(folder):
    """Key to {suffix: bytes}, as readers of WebDataset group a tar's members: neighbours of one name up to the dot."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [(*member.name.split(".", 1), tar.extractfile(member).read()) for member in tar]
        for key, group in groupby(members, key=lambda member: member[0]):
            assert key not in found
            found[key] = {suffix: data for _, suffix, data in group}
    return found


@pytest.fixture(scope="module")
def reader():
    with MediaReader() as reader:
        yield reader


@pytest.fixture
def decoded(reader, tmp_path):
    def decoded(data, start_s, end_s):
        """Frames of a video from `start_s` to before `end_s`."""
        path = tmp_path / "clip"
        path.write_bytes(data)
        return reader.every_frame(Source(str(path), 0, len(data)), 1 << 20, start_s, end_s)

    return decoded


@pytest.fixture(scope="module")
def out(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def shards(out, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "made"
    printed = reelmill("clips", "export", out, folder)
    assert f"{folder}: 7 samples, 0 were there" in printed
    return folder


def test_each_kept_sample_is_there_with_caption_and_scores(out, shards):
    run = public.open_run(out)
    rows = {row["sample_id"]: row for row in run.selection().to_pylist() if row["kind"] != "text"}
    found = samples(shards)
    assert found.keys() == rows.keys()
    for key, files in found.items():
        facts = json.loads(files["json"])
        assert files["txt"].decode() == (rows[key]["caption"] or "")
        assert {name: facts[name] for name in rows[key]} == rows[key]


def test_the_pixels_are_those_of_the_clip(out, shards, reader, decoded):
    run = public.open_run(out)
    plan = {row["item_id"]: row for row in run.sql("SELECT * FROM plan").to_pylist()}
    videos = 0
    for files in samples(shards).values():
        facts = json.loads(files["json"])
        place = plan[facts["item_id"]]
        source = Source(place["path"], place["offset"], place["size"])
        if "mp4" in files:
            span = facts["clip_start_s"], facts["clip_end_s"]
            wanted = reader.every_frame(source, 1 << 20, facts["start_s"], facts["end_s"])
            assert np.array_equal(decoded(files["mp4"], *span), wanted)
            assert len(files["mp4"]) < source.size
            videos += 1
        else:
            with source.open() as stream:
                assert files["jpg"] == stream.read()
            Image.open(io.BytesIO(files["jpg"])).load()
    assert videos == 4


def test_run_again_it_goes_on(out, shards, tmp_path):
    folder = tmp_path / "shards"
    first = export_clips(out, folder, kinds=["image"], shard_mb=1)
    assert (first.samples, first.known) == (3, 0)
    assert len(list(folder.glob("image-*.tar"))) == 1  # three pictures of 80 kB
    (folder / ".video-000000.tar.1234.tmp").write_bytes(b"half of one")  # what a kill leaves
    again = export_clips(out, folder)
    assert (again.samples, again.known) == (4, 3)
    assert samples(folder) == samples(shards)


def test_shards_are_full_at_a_size(out, tmp_path, monkeypatch):
    monkeypatch.setattr("reelmill.pipelines.clips.export.MIB", 20_000)
    export_clips(out, tmp_path, kinds=["video"], shard_mb=1)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["video-000000.tar", "video-000001.tar"]
    whole = samples(tmp_path)
    assert len(whole) == 4
    (tmp_path / "video-000000.tar").unlink()
    export_clips(out, tmp_path, kinds=["video"], shard_mb=1)
    assert samples(tmp_path) == whole, "the shard that stayed is not written over"


def test_what_is_no_longer_kept_is_not_mixed_in(out, shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    reelmill("select", copy, "pictures", "--set", "rules.duration.min=100")
    with pytest.raises(ConfigError, match="holds 4 samples that selection 'pictures' does not keep"):
        export_clips(copy, shards, "pictures")
    assert export_clips(copy, tmp_path / "other", "pictures").samples == 3
    with pytest.raises(ConfigError, match=r"--kind 'text'; .*allowed: image, video"):
        export_clips(copy, tmp_path / "third", kinds=["text"])


def test_hugging_face_reads_the_shards(shards, tmp_path):
    datasets.disable_progress_bars()
    files = {"data_files": str(shards / "image-*.tar"), "split": "train", "cache_dir": str(tmp_path)}
    loaded = datasets.load_dataset("webdataset", **files)
    assert len(loaded) == 3
    assert loaded[0]["jpg"].size[0] >= 520
    assert loaded[0]["json"]["sample_id"] == loaded[0]["__key__"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run over videos of several codecs and containers, of two scenes each, and what cannot be cut."""
    folder = tmp_path_factory.mktemp("odd")
    dump = folder / "dump"
    dump.mkdir()
    frames = list(scene_frames([(1, 54), (2, 51)]))
    one_group = {"crf": "24", "g": "1000", "bf": "3", "sc_threshold": "0"}
    write_video(dump / "one_group.mp4", frames, options=one_group)
    write_video(dump / "open.mp4", frames, options={"crf": "24", "g": "10", "bf": "3", "x264-params": "open-gop=1"})
    write_video(dump / "mpeg2.mpg", frames, fps=25, codec="mpeg2video", options={"g": "12", "bf": "2"})
    write_video(
        dump / "vp9.webm", frames, codec="libvpx-vp9", options={"g": "20", "deadline": "realtime", "cpu-used": "8"}
    )
    write_video(dump / "wide.mkv", frames, options={"crf": "24", "g": "12"}, aspect=2)
    write_video(dump / "stream.ts", frames, options={"crf": "24", "g": "12"})
    pieces = [write_video(folder / f"{n}.ts", frames[:54], options={"crf": "24", "g": "12"}) for n in range(2)]
    (dump / "steps.ts").write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), ["engine.executor=inline", "tokens.area=1024"])
    recipe.rules = {}
    curate([dump], folder / "out", recipe, CurateOptions(), Console(quiet=True))
    return folder / "out"


def test_every_codec_and_container_gives_the_source_s_frames_or_the_whole_file(odd, reader, decoded, tmp_path):
    done = export_clips(odd, tmp_path / "shards")
    run = public.open_run(odd)
    plan = {row["item_id"]: row for row in run.sql("SELECT * FROM plan").to_pylist()}
    suffixes = {}
    for files in samples(tmp_path / "shards").values():
        facts = json.loads(files.pop("json"))
        ((suffix, data),) = (item for item in files.items() if item[0] != "txt")
        suffixes.setdefault(facts["uri"], []).append(suffix)
        source = Source(plan[facts["item_id"]]["path"], 0, plan[facts["item_id"]]["size"])
        wanted = reader.every_frame(source, 1 << 20, facts["start_s"], facts["end_s"])
        assert len(wanted) > 40
        assert np.array_equal(decoded(data, facts["clip_start_s"], facts["clip_end_s"]), wanted), facts["uri"]
    cut = {"one_group.mp4": "mp4", "open.mp4": "mp4", "mpeg2.mpg": "mkv", "vp9.webm": "mkv", "wide.mkv": "mp4"}
    assert suffixes == {
        **{uri: [suffix] * 2 for uri, suffix in cut.items()},
        "stream.ts": ["mp4"] * 2,
        "steps.ts": ["ts"] * 2,
    }
    assert done.whole == 2


def test_a_clip_in_the_middle_has_no_more_than_its_groups_of_pictures(odd, tmp_path):
    export_clips(odd, tmp_path)
    for files in samples(tmp_path).values():
        facts = json.loads(files["json"])
        if facts["uri"] == "open.mp4" and facts["start_s"] > 0:
            assert 0 <= facts["clip_start_s"] < 11 / 24
            with av.open(io.BytesIO(files["mp4"])) as container:
                packets = [packet for packet in container.demux(video=0) if packet.size]
            assert len(packets) <= 51 + 11 + 4


def test_a_dump_that_is_gone_is_counted(out, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    lines = []
    plan = copy / "plan.parquet"
    table = public.open_run(copy).sql("SELECT * REPLACE (replace(path, 'dump', 'gone') AS path) FROM plan")
    RunFolder(copy).commit(plan, table)
    done = export_clips(copy, tmp_path / "shards", log_fn=lines.append)
    assert (done.samples, done.left_out) == (0, 7)
    assert all("is gone" in line for line in lines)


def test_an_imported_folder_has_no_media(tmp_path):
    (tmp_path / "codes.jsonl").write_text('{"text": "a cat", "codes": [[0, 1, 2], [3, 4, 5]]}\n')
    reelmill("tokens", "import", tmp_path / "codes.jsonl", "--out", tmp_path / "made", "--tokenizer", "reelmill-tok-xs")
    with pytest.raises(DataError, match="was imported"):
        export_clips(tmp_path / "made", tmp_path / "shards")


def test_it_is_a_verb_of_an_open_run(out, tmp_path, capsys):
    done = public.open_run(out).export_clips(tmp_path, kinds=["image"], quiet=True)
    assert (done.samples, done.whole, done.known, done.left_out) == (3, 0, 0, 0)
    assert capsys.readouterr().out == ""
