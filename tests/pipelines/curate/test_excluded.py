"""Pictures of benchmarks: a folder, a table, lists of hashes; what matches is rejected by the benchmark's name."""

import hashlib

import copies
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import CommandLine
from dumps import light_recipe
from PIL import Image

from reelmill import weights
from reelmill.curation.duplicates import hash_lists, pdq
from reelmill.curation.duplicates.config import DuplicatesConfig
from reelmill.curation.scoring import ScoreConfig
from reelmill.errors import ConfigError
from reelmill.orchestration.views import LedgerQueries

HEX = "ab" * 32


def photograph(card):
    image = Image.open(weights.path(card)).convert("RGB")
    image.thumbnail((512, 512))
    return np.asarray(image)


def save(path, image):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path, quality=90)
    return path


def recipe(folder, scorers):
    near = DuplicatesConfig(near="phash" in scorers)
    return light_recipe(folder / "light.toml", score=ScoreConfig(scorers=scorers), rules={}, duplicates=near)


def test_what_matches_pictures_tables_and_hashes_is_rejected_by_their_name(tmp_path, monkeypatch, capsys):
    flower, china, rocket = (photograph(f"media-{name}") for name in ("flower", "china", "rocket"))
    astronaut = save(tmp_path / "dump" / "astronaut.jpg", photograph("media-astronaut"))
    for name, image in (("flower", flower), ("china", china), ("rocket", rocket)):
        save(tmp_path / "dump" / f"{name}.jpg", image)
    save(tmp_path / "dump" / "other.jpg", copies.compressed(np.rot90(flower)[:200, :200]))
    save(tmp_path / "geneval" / "q1.png", copies.mirrored(copies.cut(flower, 0, 0, 0.1, 0.05)))
    rows = {"image": [{"bytes": save(tmp_path / "r.jpg", copies.scaled(rocket)).read_bytes(), "path": "r.jpg"}]}
    pq.write_table(pa.table({**rows, "prompt": ["a rocket on its pad"]}), tmp_path / "coco.parquet")
    by_bytes = hashlib.sha256(astronaut.read_bytes()).hexdigest()
    (tmp_path / "mme.sha256").write_text(f"{HEX}  else.jpg\n{by_bytes.upper()}  0001.jpg\n")
    by_looks = pdq.pdq(pdq.shrunk(copies.scaled(china))).tobytes().hex()
    (tmp_path / "vqa.pdq").write_text(f"# of pictures\n{by_looks},100\n")
    command = CommandLine(monkeypatch, capsys)
    base = ("curate", tmp_path / "dump", "--recipe", recipe(tmp_path, {"phash": {}}), "--executor", "inline")
    asked = (*base, "--out", tmp_path / "out")
    for name in ("geneval", "coco.parquet", "mme.sha256", "vqa.pdq"):
        asked += ("--exclude", tmp_path / name)
    verdicts = """SELECT uri, status, rule, duplicate_reason, duplicate_method FROM samples ORDER BY uri"""
    assert command(*asked).code == 0
    with LedgerQueries(tmp_path / "out") as ledger:
        found = [tuple(row.values()) for row in ledger.rows(verdicts)]
    assert found == [
        ("astronaut.jpg", "rejected", "excluded", "mme.sha256", "sha256"),
        ("china.jpg", "rejected", "excluded", "vqa.pdq", "pdq"),
        ("flower.jpg", "rejected", "excluded", "geneval", "pdq"),
        ("other.jpg", "kept", None, None, None),
        ("rocket.jpg", "rejected", "excluded", "coco", "pdq"),
    ]
    (tmp_path / "mme.sha256").write_text(f"{HEX}\n")  # what the list no longer names comes back, without --update
    assert command(*asked).code == 0
    with LedgerQueries(tmp_path / "out") as ledger:
        kept = [row["uri"] for row in ledger.rows("SELECT uri FROM samples WHERE status = 'kept' ORDER BY uri")]
    assert kept == ["astronaut.jpg", "other.jpg"]


def test_what_cannot_be_compared_is_an_error(tmp_path, monkeypatch, capsys):
    save(tmp_path / "dump" / "a.jpg", photograph("media-flower"))
    save(tmp_path / "coco" / "b.jpg", photograph("media-rocket"))
    (tmp_path / "again").mkdir()
    save(tmp_path / "again" / "coco" / "c.jpg", photograph("media-rocket"))
    command = CommandLine(monkeypatch, capsys)
    base = ("curate", tmp_path / "dump", "--out", tmp_path / "out", "--executor", "inline", "--recipe")
    plain = command(*base, recipe(tmp_path, {"quality": {}}), "--exclude", tmp_path / "coco")
    both = ("--exclude", tmp_path / "coco", "--exclude", tmp_path / "again" / "coco")
    twice = command(*base, recipe(tmp_path, {"phash": {}}), *both)
    assert twice.code == 2 and "two --exclude are named coco" in twice.err
    assert plain.code == 2 and "add [score.scorers.phash]" in plain.err


@pytest.mark.parametrize(
    ("text", "says"),
    [("abc\n", "line 1: 'abc' does not begin with a hash of 64 hex digits"), ("# none\n\n", "holds no hashes")],
)
def test_a_list_without_hashes_is_an_error(tmp_path, text, says):
    (tmp_path / "a.sha256").write_text(text)
    with pytest.raises(ConfigError, match=says):
        hash_lists.listed(tmp_path / "a.sha256")
    with pytest.raises(ConfigError, match="cannot be read"):
        hash_lists.digest(tmp_path / "none.pdq")
