"""A corpus of odd files through the command line: the duration, size, number of samples, or the reason, of each."""

import duckdb
import numpy as np
import pytest
from dumps import curate, light_recipe
from grading import BT2020, HLG, PQ, graded
from odd_media import cut, film, picture, pictures, rename_first_box, set_matrix, with_time_codes
from odd_pictures import animation, png, turned
from PIL import Image

BOXES = (b"styp", b"free", b"skip", b"uuid", b"pnot")
CONTAINERS = {
    "avi": "mpeg4", "flv": "flv", "wmv": "wmv2", "asf": "msmpeg4", "mkv": "libx264", "webm": "libvpx", "mov": "libx264",
    "3gp": "mpeg4", "ts": "libx264", "mxf": "mpeg2video", "ivf": "libvpx", "m2v": "mpeg2video",
}  # fmt: skip
MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
CUT = {"mkv": "libx264", "avi": "mpeg4", "flv": "flv", "wmv": "wmv2"}


def videos(folder):
    """Write them; name to (seconds, width, height, samples)."""
    found = {}
    for kind, codec in CONTAINERS.items():
        fps = 25 if codec == "mpeg2video" else 10
        film(folder / f"kind.{kind}", codec=codec, fps=fps)
        found[f"kind.{kind}"] = (20 / fps, 128, 96, 1)
    for number, matrix in enumerate(MATRICES):
        set_matrix(film(folder / f"matrix{number}.mp4"), matrix)
        found[f"matrix{number}.mp4"] = (2, *((96, 128) if matrix[0] == 0 else (128, 96)), 1)
    for kind in BOXES:
        name = f"first_{kind.decode()}.mp4"
        rename_first_box(film(folder / name), kind)
        found[name] = (2, 128, 96, 1)
    for name, transfer in (("pq.mkv", PQ), ("hlg.mkv", HLG)):
        graded(folder / name, transfer, BT2020, count=20)
        found[name] = (2, 128, 96, 1)
    with_time_codes(film(folder.parent / "plain.ts")).rename(folder / "codes.m2ts")
    found["codes.m2ts"] = (2, 128, 96, 1)
    parts = [film(folder.parent / "a.ts"), film(folder.parent / "b.ts", pictures(20, 96, 128))]
    (folder / "turned.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    found["turned.ts"] = (4, 128, 96, 2)
    return found


def images(folder):
    """Write them; name to (width, height, frames)."""
    found = {}
    for orientation in range(1, 9):
        stored, exif = turned(picture(), orientation)
        stored.save(folder / f"turned{orientation}.jpg", exif=exif)
        found[f"turned{orientation}.jpg"] = (128, 96, 1)
    (folder / "deep.png").write_bytes(png(picture().astype(np.uint16) * 257, depth=16))
    found["deep.png"] = (128, 96, 1)
    for kind in ("gif", "webp"):
        animation(folder / f"moves.{kind}", pictures(3), 100)
        found[f"moves.{kind}"] = (128, 96, 3)
    return found


def refused(folder):
    """Write them; name to reason."""
    for kind, codec in CUT.items():
        for name, share, end in (("half", 0.5, None), ("packet", None, -200)):
            cut(film(folder / f"{name}.{kind}", codec=codec), share, end)
    found = {f"{name}.{kind}": "truncated" for kind in CUT for name in ("half", "packet")}
    Image.fromarray(picture()[..., 0].astype(np.float32)).save(folder / "float.tif")
    (folder / "list.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    return {**found, "float.tif": "no_white", "list.mp4": "not_a_video"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(rows of items by uri, expected videos, images, refusals)."""
    root = tmp_path_factory.mktemp("corpus")
    dump = root / "dump"
    dump.mkdir()
    expected = videos(dump), images(dump), refused(dump)
    curate(dump, root / "out", light_recipe(root / "light.toml"), "--executor", "inline")
    table = duckdb.read_parquet(str(root / "out/items/*.parquet"), union_by_name=True).to_arrow_table()
    return {row["uri"]: row for row in table.to_pylist()}, *expected


def test_videos(corpus):
    items, expected, _, _ = corpus
    columns = ("duration_s", "width", "height", "n_samples")
    found = {uri: tuple(items[uri][column] for column in columns) for uri in expected}
    assert {uri: row for uri, row in found.items() if row != pytest.approx(expected[uri], abs=0.01)} == {}


def test_images(corpus):
    items, _, expected, _ = corpus
    assert {uri: (items[uri]["width"], items[uri]["height"], items[uri]["frames"]) for uri in expected} == expected


def test_refusals(corpus):
    items, _, _, expected = corpus
    assert {uri: (items[uri]["reason"] or "").partition(":")[0] for uri in expected} == expected
