"""Spans of a table become the clips of one video, each with its own caption; the video is not cut again."""

import json

import numpy as np
import pytest
from videos import scene_frames, write_video

from reelmill.archives.spans import spans_of
from reelmill.config import to_dict
from reelmill.curation.expanders import video
from reelmill.curation.readers import find_reader
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig
from reelmill.curation.sidecars import Sidecar
from reelmill.errors import Refused
from reelmill.media.source import Source

PANDA = {
    "timestamp": "[['0:00:08.875', '0:00:10.010'], ['0:01:10.5', '1:01:12']]",
    "caption": "['It\\'s a mill.', \"A 'red' door, open.\"]",
    "matching_score": "[0.4, 0.3]",
}


@pytest.mark.parametrize(
    ("row", "spans"),
    [
        (PANDA, [(8.875, 10.01, "It's a mill."), (70.5, 3672.0, "A 'red' door, open.")]),
        ({"timestamp": "[0:00:02.5, 0:00:04]", "caption": "one"}, [(2.5, 4.0, "one")]),
        ({"timestamps": [[1, 2.5], [3, 4]], "captions": ["a", "b"]}, [(1.0, 2.5, "a"), (3.0, 4.0, "b")]),
        ({"start": "00:10", "end": "00:12.25"}, [(10.0, 12.25, None)]),
        ({"starttime": 3, "endtime": 5, "caption": "x"}, [(3.0, 5.0, "x")]),
        ({"start": [5, 1], "end": [6, 2], "caption": ["later", "sooner"]}, [(1.0, 2.0, "sooner"), (5.0, 6.0, "later")]),
        ({"start": [0, 0], "end": [6, 6], "caption": ["twice", "the same"]}, [(0.0, 6.0, "twice")]),
        ({"timestamp": "[[0, 1], [2, 3]]", "caption": "of all"}, [(0.0, 1.0, None), (2.0, 3.0, None)]),
        ({"timestamp": "2019-04-25T12:57:54Z"}, []),
        ({"start": 3}, []),
        ({"timestamp": "", "end": "", "start": ""}, []),
    ],
)
def test_spans_as_tables_state_them(row, spans):
    assert spans_of(row) == spans


@pytest.mark.parametrize(
    "row",
    [
        {"start": 5, "end": 5},
        {"start": 5, "end": 1},
        {"start": [1, 2], "end": [3]},
        {"timestamp": "[1, 2, 3]"},
        {"timestamp": [[0, 1]] * 3000},
        {"timestamp": {"from": 1}},
        {"start": True, "end": 2},
        {"start": 0, "end": 1e12},
    ],
)
def test_what_is_no_span(row):
    with pytest.raises(Refused, match="malformed_span"):
        spans_of(row)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(find_reader(path).items(path))


def test_rows_of_one_video_are_one_item(tmp_path):
    rows = [
        {"url": f"https://x.test/{video}", "timestamp": f"[{n}, {n + 2}]", "caption": f"scene {n}", "motion": n}
        for video, n in (("a", 4), ("a", 0), ("b", 0), ("a", 9))
    ]
    items = write_rows(tmp_path / "koala.jsonl", rows)
    assert [(item.url[-1], [tuple(span) for span in item.known.spans]) for item in items] == [
        ("a", [(0.0, 2.0, "scene 0"), (4.0, 6.0, "scene 4")]),
        ("b", [(0.0, 2.0, "scene 0")]),
        ("a", [(9.0, 11.0, "scene 9")]),
    ]
    assert Sidecar.from_json(items[0].known.to_json()) == items[0].known


def test_all_else_that_a_row_says_is_kept(tmp_path):
    sha = "A" * 64
    row = {
        "URL": "https://x.test/1",
        "TEXT": "a mill",
        "WIDTH": 640,
        "HEIGHT": "480",
        "similarity": 0.31,
        "sha256": sha,
    }
    row |= {"license": "CC0-1.0", "tags": ["a", "b"], "empty": None, "nested": {"x": 1}, "nul": "a\0b"}
    bad = {"url": "https://x.test/2", "start": 4, "end": 1}
    bad_digest = {"url": "https://x.test/3", "width": 1, "md5": "abc", "hash": 123}
    (first,) = write_rows(tmp_path / "laion.jsonl", [row])
    second, third = write_rows(tmp_path / "others.jsonl", [bad, bad_digest])
    assert (first.known.alt, first.known.licence, first.known.side) == ("a mill", "CC0-1.0", 480.0)
    assert first.known.digest == f"sha256:{sha.lower()}"
    assert json.loads(first.known.meta) == {
        **{"WIDTH": 640, "HEIGHT": "480", "similarity": 0.31, "tags": ["a", "b"], "nul": "a\0b"}
    }
    assert (second.problem or "").startswith("malformed_span")
    assert (third.known.digest, json.loads(third.known.meta)) == (None, {"width": 1, "hash": 123})


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two scenes of 2.5 and 2 seconds, 24 frames a second."""
    path = tmp_path_factory.mktemp("film") / "v.mp4"
    write_video(path, scene_frames([(1, 60), (101, 48)]), options={"crf": "24", "g": "24"})
    return Source(str(path), 0, path.stat().st_size)


def samples(film, spans, **scenes):
    options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScenesConfig(**scenes)), "spans": spans}
    found = [(body, arrays) for body, arrays in video.expand(film, options) if body["type"] == "sample"]
    return {(round(body["start_s"], 3), round(body["end_s"], 3)): arrays for body, arrays in found}


def test_clips_are_those_that_are_given(film):
    """Across a cut, overlapping, of no length in the video, and beyond its end."""
    found = samples(film, [[1.0, 4.0], [0.5, 2.0], [3.0, 60.0], [50.0, 60.0]])
    assert list(found) == [(0.5, 2.0), (1.0, 4.0), (3.0, 4.5)]
    times = {span: arrays["times"].tolist() for span, arrays in found.items()}
    for (start, end), kept in times.items():
        assert kept == pytest.approx(np.arange(start, end - 1e-6, 0.5).tolist(), abs=0.05)
    assert all(len(arrays["images"]) == len(arrays["times"]) for arrays in found.values())
    assert all(len(arrays["runs"]) >= len(arrays["times"]) - 1 for arrays in found.values())


def test_long_spans_are_divided(film):
    assert list(samples(film, [[0.0, 4.0]], max_open_s=2.0)) == [(0.0, 2.0), (2.0, 4.0)]
    assert list(samples(film, [[0.0, 4.0]], max_s=1.0)) == [(0.0, 4.0)]
