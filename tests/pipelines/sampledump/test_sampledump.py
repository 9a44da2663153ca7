"""The sample dump is what its facts say: file by file, read with PyAV, PySceneDetect and Pillow alone, and curated."""

import hashlib
import io
import json
import re
import tarfile
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path

import av
import numpy as np
import pycld2
import pytest
from dumps import curate, curate_here
from PIL import ExifTags, Image, UnidentifiedImageError
from scenedetect import ContentDetector, FrameTimecode, ThresholdDetector

from reelmill import weights
from reelmill.curation.readers import read_dump
from reelmill.errors import DataError, WeightsError
from reelmill.isolation.parent import Child, IsolationConfig
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.sampledump import crawls
from reelmill.pipelines.sampledump.contents import FACTS
from reelmill.pipelines.sampledump.images import COPY, STILLS
from reelmill.pipelines.sampledump.real import REAL
from reelmill.pipelines.sampledump.videos import TAR, VIDEOS
from reelmill.pipelines.sampledump.write import write_sample_dump

DONE_VIDEOS = [f.uri for f in FACTS.values() if f.kind == "video" and f.status == "done"]
DONE_IMAGES = [f.uri for f in FACTS.values() if f.kind == "image" and f.status == "done"]
README = Path(__file__).parents[3] / "README.md"
BY_URI = {video.uri: video for video in VIDEOS}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_sample_dump(tmp_path_factory.mktemp("sample") / "dump")


@pytest.fixture(scope="module")
def root(manifest):
    return manifest.root


@cache
def packed_members(root: Path) -> dict[str, bytes]:
    places = {item.uri: item.source for item in read_dump(root) if item.uri.startswith("crawl/")}
    with Child(IsolationConfig()) as child:
        return {uri: child.opened(place).open().read() for uri, place in places.items()}


def data_of(root: Path, uri: str) -> bytes:
    if uri.startswith("crawl/"):
        return packed_members(root)[uri]
    if not uri.startswith(f"{TAR}/"):
        return (root / uri).read_bytes()
    with tarfile.open(root / TAR) as tar:
        return tar.extractfile(uri.removeprefix(f"{TAR}/")).read()


def decoded(data: bytes) -> tuple[list[np.ndarray], list[float], list[int]]:
    """Frames as stored (BGR), their times and their rotations."""
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
        return [f.to_ndarray(format="bgr24") for f in frames], [f.time for f in frames], [f.rotation for f in frames]


def test_size_and_counts(manifest):
    counts = f"{len(manifest.videos)} videos, {len(manifest.images)} images, {len(manifest.texts)} texts"
    assert f"a sample dump of {counts} ->" in README.read_text(encoding="utf-8")
    assert manifest.bytes < 15e6
    assert manifest.bytes == sum(path.stat().st_size for path in manifest.root.rglob("*") if path.is_file())


def test_items_are_the_facts_and_the_real_footage(root, manifest):
    uris = {item.uri for item in read_dump(root)}
    assert uris == set(FACTS) | {real.uri for real in REAL}
    assert uris == {*manifest.videos, *manifest.images, *manifest.texts}


@pytest.mark.parametrize("uri", DONE_VIDEOS)
def test_video_has_the_stated_size_length_and_cuts(root, uri):
    fact = FACTS[uri]
    frames, times, rotations = decoded(data_of(root, uri))
    height, width = frames[0].shape[:2]
    assert (height, width) == ((fact.width, fact.height) if rotations[0] else (fact.height, fact.width))
    end_s = times[-1] + 1 / fact.fps
    assert end_s == pytest.approx(fact.samples[-1].end_s, abs=0.01)
    black = [(one.end_s, other.start_s) for one, other in pairwise(fact.samples) if one.end_s < other.start_s]
    assert all(one.end_s <= other.start_s for one, other in pairwise(fact.samples))
    assert all(any(end <= cut / fact.fps <= start for cut in fact.cuts) for end, start in black)

    content, fade = ContentDetector(min_scene_len="0.6s"), ThresholdDetector(min_scene_len="0.6s")
    found = []
    for index, frame in enumerate(frames):
        now = FrameTimecode(index, fps=fact.fps)
        found += [cut.frame_num for detector in (content, fade) for cut in detector.process_frame(now, frame)]
    assert len(found) == len(fact.cuts)
    assert all(abs(cut - stated) <= 2 for cut, stated in zip(sorted(found), fact.cuts, strict=True))


def test_the_fade_is_found_by_the_fade_detector_alone(root):
    [uri] = [video.uri for video in VIDEOS if "fade" in video.caption]
    frames, _, _ = decoded(data_of(root, uri))
    detector = ContentDetector()
    assert not any(detector.process_frame(FrameTimecode(i, fps=24.0), frame) for i, frame in enumerate(frames))
    assert min(frame.mean() for frame in frames) < 1


def test_hard_cuts_are_exact(root):
    fact = FACTS["videos/long/scenes.mp4"]
    frames, _, _ = decoded(data_of(root, fact.uri))
    jumps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert sorted(np.argsort(jumps)[-len(fact.cuts) :] + 1) == list(fact.cuts)


def test_rotated_video_is_stored_lying_and_shown_upright(root):
    video = BY_URI["videos/phone/VID_0007.mov"]
    frames, _, rotations = decoded(data_of(root, video.uri))
    assert set(rotations) == {-90}
    upright = np.rot90(frames[0], -1)[..., ::-1].astype(int)
    painted = next(video.frames()).astype(int)
    assert np.abs(upright - painted).mean() < 6
    assert np.abs(upright[::-1, ::-1] - painted).mean() > 20


def test_irregular_timestamps(root):
    _, times, _ = decoded(data_of(root, "videos/sea/boat.mkv"))
    steps = np.diff(times)
    assert steps.min() < 0.025 and steps.max() > 0.095


def test_formats_vary(root):
    found = set()
    for uri in DONE_VIDEOS:
        with av.open(io.BytesIO(data_of(root, uri))) as container:
            stream = container.streams.video[0]
            found.add((Path(uri).suffix, stream.codec_context.name, stream.pix_fmt, len(container.streams.audio)))
    assert {suffix for suffix, *_ in found} == {".mp4", ".mov", ".mkv", ".webm", ".avi"}
    assert {codec for _, codec, *_ in found} == {"h264", "mpeg4", "vp9"}
    assert (".mkv", "h264", "yuv444p", 0) in found
    assert (".mov", "h264", "yuv420p", 1) in found


def test_frozen_shaking_and_grey_clips_are_that(root):
    slide, _, _ = decoded(data_of(root, "videos/spoilt/slide.mp4"))
    assert max(np.abs(slide[0].astype(int) - frame).mean() for frame in slide) < 2
    shake, _, _ = decoded(data_of(root, "videos/spoilt/shake.mp4"))
    one, two, three = (frame[:, 40:-40].astype(int) for frame in shake[:3])
    assert np.abs(one - two).mean() > 3 * np.abs(one - three).mean()
    grey, _, _ = decoded(data_of(root, "videos/spoilt/grey.mp4"))
    assert max(np.ptp(frame.astype(int), axis=2).max() for frame in grey) <= 3


def test_broken_videos(root):
    for uri in ("videos/broken/half.mp4", "videos/broken/page.mp4"):
        with pytest.raises(av.error.InvalidDataError):
            av.open(io.BytesIO(data_of(root, uri)))
    assert data_of(root, "videos/broken/page.mp4").startswith(b"<!DOCTYPE html>")
    with av.open(io.BytesIO(data_of(root, "videos/broken/stops.mkv"))) as container:
        declared = container.duration / av.time_base
        *_, last = container.decode(video=0)  # no error by itself
    assert last.time < 0.7 * declared


@pytest.mark.parametrize("uri", DONE_IMAGES)
def test_image_opens_with_the_stated_size(root, uri):
    with Image.open(io.BytesIO(data_of(root, uri))) as image:
        image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation) == 6
        assert (image.size[::-1] if turned else image.size) == (FACTS[uri].width, FACTS[uri].height)


def test_image_oddities(root):
    def opened(uri):
        return Image.open(io.BytesIO(data_of(root, uri)))

    assert opened("images/print/wheel.jpg").mode == "CMYK"
    assert opened("images/phone/IMG_0042.JPG").getexif()[ExifTags.Base.Orientation] == 6
    assert opened("images/cutout.png").mode == "RGBA"
    assert opened("images/village.webp").format == "WEBP"
    assert opened("images/fog.jpg").mode == "L"


def test_broken_images(root):
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(data_of(root, "images/broken.jpg"))).load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(data_of(root, "images/rubbish.png")))
    bomb = data_of(root, f"{TAR}/000000101.png")
    assert len(bomb) < 200
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(bomb))


def test_duplicates_are_exact_and_have_the_larger_uri(root):
    copies = [fact for fact in FACTS.values() if fact.duplicate_of]
    assert {fact.kind for fact in copies} == {"video", "image"}
    digests = {}
    for item in read_dump(root):
        digests.setdefault(hashlib.sha256(data_of(root, item.uri)).hexdigest(), []).append(item.uri)
    assert sorted(uris for uris in digests.values() if len(uris) > 1) == sorted(
        sorted([fact.duplicate_of, fact.uri]) for fact in copies
    )
    assert all(fact.duplicate_of < fact.uri for fact in copies)


def test_texts(root):
    texts = {uri: data_of(root, uri).decode("utf-8") for uri in FACTS if FACTS[uri].kind == "text"}
    assert all(1000 < len(text) < 4000 for uri, text in texts.items() if uri.startswith("texts/"))
    assert "<|image start|>" in texts["texts/notes.txt"] and "<|visual token 000123|>" in texts["texts/notes.txt"]
    assert all(part in texts["texts/水車.txt"] for part in ("水車", "🌊", "물레방아", "é", "é"))


def test_sidecars(root):
    for item in read_dump(root):
        fact = FACTS.get(item.uri)
        if item.uri == "images/cutout.png":
            with pytest.raises(json.JSONDecodeError):
                json.loads(item.json.open().read())
        elif item.known is not None and item.known.url:
            assert item.known.url.startswith("https://")
            assert item.kind == "text" or (item.known.alt or "") == fact.caption
        elif item.json is None:
            assert not fact.caption and item.text is None
        else:
            known = json.loads(item.json.open().read())
            assert known["url"].startswith("https://") and known["source"]
            assert known.get("licence") or known.get("license")
            caption = item.text.open().read().decode() if item.text else known.get("alt", "")
            assert caption == (fact or next(real for real in REAL if real.uri == item.uri)).caption
    assert not any(item.json for item in read_dump(root) if item.uri == "videos/long/scenes.mp4")


def test_one_of_each_packed_format_and_language(root):
    assert {path.name for path in (root / "crawl").iterdir()} == {
        "story.warc.gz", "pictures.parquet", "stills.zip", "texts.jsonl"
    }  # fmt: skip
    items = {item.uri: item for item in read_dump(root) if item.uri.startswith("crawl/")}
    languages = [pycld2.detect(data_of(root, uri).decode())[2][0][1] for uri in items if ".jsonl/" in uri]
    assert sorted(languages) == ["de", "es", "ru", "zh"]
    pages = {item.known.url.rpartition("/")[2]: item for uri, item in items.items() if ".warc.gz/" in uri}
    assert len(pages["river.html"].known.images) == 4 and pages["river.html"].known.licence == crawls.LICENCE
    [mill] = [item for item in read_dump(root) if item.uri == "videos/mills/windmill.mp4"]
    assert b"WEBVTT" in mill.subtitles.open().read()


def test_real_footage_is_the_cards_bytes_with_its_licence(root):
    items = {item.uri: item for item in read_dump(root)}
    assert sum(real.kind == "video" for real in REAL) >= 3 and sum(real.kind == "image" for real in REAL) >= 3
    for real in REAL:
        card = weights.cards()[real.card]
        assert card.role == "media" and card.default
        assert hashlib.sha256(data_of(root, real.uri)).hexdigest() == card.sha256
        known = json.loads(items[real.uri].json.open().read())
        assert known.get("licence", known.get("license")) == card.licence


def test_every_rule_and_refusal_is_met():
    rules = {sample.rule for fact in FACTS.values() for sample in fact.samples if sample.rule}
    expected = {"duration", "resolution", "image_resolution", "text", "motion", "jitter", "colour", "quality"}
    assert rules == expected | {"exact_duplicate"}
    sides = {s.side for fact in FACTS.values() for s in fact.samples if s.rule == "motion"}
    assert sides == {"low", "high"}
    reasons = {fact.reason for fact in FACTS.values() if fact.status == "refused"}
    assert reasons == {"truncated", "not_a_video", "corrupt", "not_an_image", "too_many_pixels"}
    kept = [s for f in FACTS.values() for s in f.samples if s.rule is None and f.kind == "video"]
    assert len(kept) >= 15
    assert all(2 <= sample.end_s - sample.start_s <= 10 for sample in kept)


def test_tar_is_well_formed(root):
    with tarfile.open(root / TAR) as tar:
        members = tar.getmembers()
    assert all(member.isreg() and "/" not in member.name and ".." not in member.name for member in members)
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(1_700_000_000, 0, "")}
    keys = [member.name.partition(".")[0] for member in members]
    assert keys == sorted(keys)


@pytest.mark.parametrize("uri", ["videos/spoilt/blink.mp4", "videos/sea/boat.mkv", f"{TAR}/000000000.webm"])
def test_encoding_again_gives_the_same_bytes(root, uri):
    assert BY_URI[uri].data() == data_of(root, uri)


@pytest.mark.parametrize("still", [*STILLS, COPY], ids=lambda still: still.uri)
def test_drawing_again_gives_the_same_bytes(root, still):
    assert still.data() == data_of(root, still.uri)


@pytest.mark.slow
def test_writing_again_gives_the_same_files(root, tmp_path):
    write_sample_dump(tmp_path / "again")
    first = {p.relative_to(root): (p.read_bytes(), p.stat().st_mtime) for p in root.rglob("*") if p.is_file()}
    again = {
        p.relative_to(tmp_path / "again"): (p.read_bytes(), p.stat().st_mtime)
        for p in (tmp_path / "again").rglob("*")
        if p.is_file()
    }
    assert first == again


def test_a_folder_in_use_is_left_alone(root, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_sample_dump(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_missing_footage_names_the_command_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match="reelmill models pull media-"):
        write_sample_dump(tmp_path / "dump")
    assert list(tmp_path.iterdir()) == []


# What `curate` says of the dump, with recipe `sample`, is what its facts say

# The recipe without RAFT, which takes three quarters of the time; its cheap neighbour measures less of the same motion.
WITHOUT_RAFT = """
base = "sample"
score.scorers.motion_raft.skip_if = "true"
rules.motion = {expr = "motion_dis", min = 0.005, max = 0.2}
tokens = {area = 4096, fps = 4.0}
"""


@pytest.fixture(scope="module", params=["without RAFT", pytest.param("as shipped", marks=pytest.mark.slow)])
def ledger(request, root, tmp_path_factory):
    """The run folder of the command; as shipped it is what `make curate` makes, on Ray."""
    place = tmp_path_factory.mktemp("curated")
    (place / "light.toml").write_text(WITHOUT_RAFT)
    light = request.param == "without RAFT"
    if light:
        curate_here(root, place / "out", place / "light.toml")
    else:
        assert "kept" in curate(root, place / "out", "sample").stdout
    with LedgerQueries(place / "out") as queries:
        yield queries


@pytest.fixture(scope="module")
def curated(ledger):
    """Its items by uri, and samples by item."""
    items = {row["uri"]: row for row in ledger.rows("SELECT * FROM items")}
    samples = ledger.rows("SELECT * FROM samples ORDER BY item_id, start_s")
    return items, {item_id: list(rows) for item_id, rows in groupby(samples, key=lambda row: row["item_id"])}


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_item_and_samples_are_as_stated(curated, fact):
    item = curated[0][fact.uri]
    assert item["status"] == fact.status, item["reason"]
    if fact.status == "refused":
        assert item["reason"].split(":")[0] == fact.reason and item["reason_class"] == "item"
        return
    samples = curated[1][item["item_id"]]
    assert len(samples) == len(fact.samples)
    assert (item["width"], item["height"]) == (fact.width, fact.height)
    near = 2 / fact.fps + 0.01 if fact.fps else 0
    for sample, stated in zip(samples, fact.samples, strict=True):
        assert abs(sample["start_s"] - stated.start_s) <= near and abs(sample["end_s"] - stated.end_s) <= near
        assert sample["rule"] == stated.rule
        assert sample["status"] == ("kept" if stated.rule is None else "rejected")
        if stated.side:
            assert (sample["value"] < sample["threshold"]) == (stated.side == "low")
        if stated.rule is None and fact.kind != "text":
            assert sample["caption"] == fact.caption if fact.caption else sample["caption_source"] == "facts"


def test_nothing_else_is_in_the_ledger(ledger):
    assert {row["uri"] for row in ledger.rows("SELECT uri FROM items")} == set(FACTS) | {real.uri for real in REAL}


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.uri)
def test_real_footage_is_kept(ledger, real):
    query = (
        "SELECT s.status, t.licence FROM items i JOIN samples s USING (item_id) LEFT JOIN tokens t USING (sample_id)"
    )
    found = ledger.rows(f"{query} WHERE i.uri = ?", [real.uri])
    assert any(row["status"] == "kept" and row["licence"] for row in found)


def test_duplicates_point_at_the_smallest_uri(ledger):
    query = """SELECT i.uri AS copy, first.uri AS original FROM samples s JOIN items i USING (item_id)
        JOIN items first ON first.item_id = s.duplicate_of"""
    found = {row["copy"]: row["original"] for row in ledger.rows(query)}
    assert found == {fact.uri: fact.duplicate_of for fact in FACTS.values() if fact.duplicate_of}


def test_the_item_that_the_readme_explains_is_in_the_dump(root):
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"reelmill explain out/sample (\S+)", readme)
    assert named and set(named) <= {item.uri for item in read_dump(root)}
