"""A disk that fails, a file that is cut while it is read: the machine's fault, worth another try, never the item's."""

import pytest
from dumps import jpeg
from videos import scene_frames, write_video

from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import ItemScorer, ScoreConfig

KINDS = {"text": "txt", "image": "jpg", "video": "mp4"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    (place / "a.txt").write_text("Words of a text that are many. " * 40_000)
    (place / "a.jpg").write_bytes(jpeg(1))
    for suffix in ("mp4", "mkv", "ts", "avi"):
        write_video(place / f"a.{suffix}", scene_frames([(1, 60)]))
    return place


def item(path, kind, **changes):
    known = {"unit": 0, "position": 0, "item_id": "i", "uri": path.name, "kind": kind, "dump": str(path.parent)}
    place = {"path": str(path), "offset": 0, "size": path.stat().st_size}
    return {**dict.fromkeys(PLAN.names), **known, **place, **changes}


def scored(rows, expanders=None):
    scorer = ItemScorer(ScoreConfig(**({"expanders": expanders} if expanders else {})), {})
    try:
        return [scorer.score(row) for row in rows]
    finally:
        scorer.close()


@pytest.mark.parametrize("name", ["a.txt", "a.jpg", "a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_an_input_output_error_is_the_machine_s(files, name):
    kind = next((kind for kind, suffix in KINDS.items() if name.endswith(suffix)), "video")
    row = item(files / name, kind)
    ((failed, samples),) = scored([row], {kind: f"faulty:{kind}_on_a_failing_disk"})
    assert (failed["status"], failed["reason_class"], samples) == ("refused", "machine", [])
    assert failed["reason"] == "unreadable: reading failed: Input/output error"
    ((again, samples),) = scored([row])
    assert (again["status"], len(samples)) == ("done", 1)


@pytest.mark.parametrize("name", ["a.txt", "a.jpg", "a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_file_shorter_than_planned_is_the_machine_s(files, name, tmp_path):
    kind = next((kind for kind, suffix in KINDS.items() if name.endswith(suffix)), "video")
    whole = (files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole)
    row = item(path, kind)
    path.write_bytes(whole[: len(whole) // 2])
    ((failed, samples),) = scored([row])
    assert (failed["status"], failed["reason_class"], samples) == ("refused", "machine", [])
    assert failed["reason"].startswith("unreadable: the file ends at byte ")


def test_a_sidecar_that_cannot_be_read_costs_a_try_not_the_licence(files, tmp_path):
    (tmp_path / "a.json").write_text('{"licence": "CC0-1.0", "alt": "words"}')
    size = (tmp_path / "a.json").stat().st_size
    row = item(files / "a.jpg", "image", json_path=str(tmp_path / "a.json"), json_offset=0, json_size=size)
    (tmp_path / "a.json").rename(tmp_path / "away")
    ((failed, _),) = scored([row])
    assert (failed["status"], failed["reason_class"]) == ("refused", "machine")
    assert failed["reason"].startswith("unreadable: a sidecar: ")
    (tmp_path / "away").rename(tmp_path / "a.json")
    ((done, _),) = scored([row])
    assert (done["status"], done["licence"], done["alt"]) == ("done", "CC0-1.0", "words")
