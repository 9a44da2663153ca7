"""Pictures of key frames that are kept from the pass are those that decoding again would give."""

import errno

import numpy as np
import pyarrow.parquet as pq
import pytest
from narrated import how_to
from videos import write_video

from reelmill.config import to_dict
from reelmill.curation.clips import video_clips
from reelmill.curation.expanders import narrated, video
from reelmill.media.source import Source
from reelmill.orchestration.picture_spool import PictureSpool, drop_pictures, kept_pictures
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.curate import recipes

GRID = {"area": 4096, "cell": 8, "whole_pixels": True}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, [frame for picture in range(3) for frame in how_to(picture)], fps=8)
    return Source(str(path), 0, path.stat().st_size)


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "out").lock() as locked:
        yield locked


def expanded(film, **options):
    score = to_dict(recipes.load("emu3_5", []).score)
    known = {**score["decode"], "scenes": score["scenes"], "keyframes": score["keyframes"]}
    return list(narrated.expand(film, {**known, **options}))


def test_they_equal_what_is_decoded_again(film):
    messages = expanded(film, pictures=GRID)
    found = {body["time_s"]: arrays["frames"] for body, arrays in messages if body["type"] == "picture"}
    (sample,) = [arrays for body, arrays in messages if body["type"] == "sample"]
    assert sorted(found) == sample["times"].tolist() and len(found) == 3
    (size,) = {picture.shape[1:3] for picture in found.values()}
    clip = {"fps": 1.0, "frames": 1, "height": size[0], "width": size[1]}
    clips = [{"key": str(time_s), "start_s": time_s, **clip} for time_s in found]
    again = {b["key"]: arrays["frames"] for b, arrays in video_clips(film, {"clips": clips}) if b["type"] == "clip"}
    assert all(np.array_equal(again[str(time_s)], picture) for time_s, picture in found.items())


def test_frames_for_which_there_is_no_room_are_left_to_be_decoded_again(film, monkeypatch):
    monkeypatch.setattr(video, "HELD_BYTES", 0)
    kinds = [body["type"] for body, _ in expanded(film, pictures=GRID)]
    assert "picture" not in kinds and kinds.count("sample") == 1


def test_nothing_is_held_that_nobody_wants(film):
    assert "picture" not in [body["type"] for body, _ in expanded(film)]


def pictures(count, size=(6, 5)):
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def test_a_unit_gives_back_the_pictures_of_each_of_its_items(folder):
    spool = PictureSpool(folder, 7)
    first, second = pictures(40), pictures(3, (4, 9))
    for item_id, group in (("first", first), ("second", second)):
        for number, picture in enumerate(group):
            spool.add(item_id, number / 4, picture)
    assert list(kept_pictures(folder, 7, "first", [0.25], (6, 5))) == []  # not yet
    spool.commit()
    found = dict(kept_pictures(folder, 7, "first", [0.25, 8.0, 99.0], (6, 5)))
    assert sorted(found) == [0.25, 8.0]
    assert np.array_equal(found[0.25], first[1]) and np.array_equal(found[8.0], first[32])
    ((_, picture),) = kept_pictures(folder, 7, "second", [0.5], (4, 9))
    assert np.array_equal(picture, second[2])
    assert list(kept_pictures(folder, 7, "second", [0.5], (6, 5))) == []  # another size
    assert list(kept_pictures(folder, 8, "first", [0.25], (6, 5))) == []
    PictureSpool(folder, 7).commit()  # scored again, and nothing kept
    assert list(kept_pictures(folder, 7, "first", [0.25], (6, 5))) == []


def test_what_a_killed_writer_left_and_what_is_damaged_is_not_taken(folder):
    spool = PictureSpool(folder, 0)
    for number, picture in enumerate(pictures(20)):
        spool.add("one", number / 4, picture)
    assert folder.sweep() == 1  # as at the next start
    spool = PictureSpool(folder, 0)
    spool.add("one", 0.0, pictures(1, (60, 50))[0])
    spool.commit()
    (path,) = (folder.root / "pictures").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert list(kept_pictures(folder, 0, "one", [0.0], (60, 50))) == []
    drop_pictures(folder)
    assert not path.exists()


@pytest.mark.parametrize("what", ["write_table", "close"])
def test_on_a_full_disk_a_unit_goes_on_without_its_pictures(folder, monkeypatch, what):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = PictureSpool(folder, 0)
    for number, picture in enumerate(pictures(40)):
        spool.add("one", number / 4, picture)
        if number == 20:
            monkeypatch.setattr(pq.ParquetWriter, what, full)
    spool.commit()
    assert list(kept_pictures(folder, 0, "one", [0.0], (6, 5))) == []
    assert list((folder.root / "pictures").iterdir()) == []  # the room is free again
