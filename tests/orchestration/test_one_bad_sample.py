"""Whatever a worker of any stage raises on one sample is that sample's row; the others, and the run, go on."""

import errno
import io
import os
import shutil
import sys

import numpy as np
import pytest
from command_line import CommandLine
from dumps import everything, light_recipe, rows
from PIL import Image
from rich.console import Console
from videos import scene_frames, textured, write_video

from reelmill.errors import DataError, MachineError
from reelmill.orchestration import tokens
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions
from reelmill.pipelines.curate.run import curate as run
from reelmill.tokenize.vision.tokenizer import VisionTokenizer

SETTINGS = (
    "rules.image_resolution.min=0",
    "captions.plain.use=troublesome:Plain",
    "captions.own.use=troublesome:Model",
    "captions.own.model=m",
    "captions.sources=['plain', 'own']",
    "captions.prefer=['own', 'plain']",
    # a rule that raises at one size of picture, in the worker itself
    "score.scorers.quality.skip_if=CASE WHEN width = 333 THEN error('no such picture') ELSE false END",
)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dump")
    write_video(folder / "v.mp4", scene_frames([(1, 60)]))
    for n in range(4):
        Image.fromarray(textured(n, 200, 240)).save(folder / f"i{n}.jpg")
    Image.fromarray(textured(9, 200, 333)).save(folder / "rule.jpg")
    strip = np.random.default_rng(0).integers(0, 255, (22, 24_200, 3), dtype=np.uint8)
    Image.fromarray(strip).save(folder / "strip.jpg", quality=50)
    (folder / "words.txt").write_text("The mill grinds slowly. " * 20)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return light_recipe(tmp_path_factory.mktemp("recipe") / "light.toml")


def made(dump, recipe, out, *assignments):
    loaded = recipes.load(str(recipe), ["engine.executor=inline", *assignments])
    return run([dump], out, loaded, CurateOptions(), Console(file=io.StringIO()))


def without(out, *tables):
    """Take tables away, as if their stages had not run."""
    for table in tables:
        for place in (out / table, out / "checksums" / table):
            shutil.rmtree(place, ignore_errors=True)


def asked(out, query):
    with LedgerQueries(out) as ledger:
        return ledger.rows(query)


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_each_costs_itself(dump, recipe, tmp_path, executor, monkeypatch, capsys):
    out = tmp_path / "out"
    options = [option for assignment in SETTINGS for option in ("--set", assignment)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))  # for Ray's workers
    words = ("curate", dump, "--out", out, "--recipe", recipe, "--executor", executor, "--workers", 2, *options)
    done = CommandLine(monkeypatch, capsys)(*words)
    assert done.code == 5, done.err  # one sample's model is asked again by a rerun
    items = {row["uri"]: row for row in asked(out, "SELECT uri, status, reason, reason_class FROM items")}
    assert {uri for uri, row in items.items() if row["status"] == "refused"} == {"rule.jpg"}
    assert "no such picture" in items["rule.jpg"]["reason"]
    found = asked(
        out, "SELECT s.uri, c.caption_source, c.caption, c.problem FROM captions c JOIN samples s USING (sample_id)"
    )
    captions = {(row["uri"], row["caption_source"]): row["caption"] for row in found if row["problem"] is None}
    problems = {(row["uri"], row["caption_source"]): row["problem"] for row in found if row["problem"]}
    assert problems.keys() == {("i1.jpg", "plain"), ("i2.jpg", "plain"), ("i3.jpg", "plain"), ("i2.jpg", "own")}
    assert problems["i1.jpg", "plain"] == "error: KeyError: 'no such word: \\ud800'"
    assert problems["i2.jpg", "plain"].startswith("error: ")
    assert problems["i3.jpg", "plain"].startswith("error: Nonsense: the caption is no text")
    assert problems["i2.jpg", "own"] == "error: Nonsense: the answer is 7; text is wanted"
    pictures = {"v.mp4", "i0.jpg", "i1.jpg", "i2.jpg", "i3.jpg", "strip.jpg"}
    assert captions.keys() == {(uri, source) for uri in pictures for source in ("plain", "own")} - {
        *problems,
        ("i1.jpg", "own"),
    }
    assert "RuntimeError: a prompt of 9,000 tokens is too long" in " ".join(done.err.split())
    assert "1 " in done.err
    failures = asked(
        out, "SELECT uri, f.stage, f.reason, f.reason_class FROM failures f JOIN samples USING (sample_id)"
    )
    assert [(row["uri"], row["stage"], row["reason_class"]) for row in failures] == [("strip.jpg", "tokenize", "item")]
    assert failures[0]["reason"].startswith("too_narrow: 4096 pixels at 24200:22")
    tokens = {row["uri"] for row in asked(out, "SELECT DISTINCT uri FROM tokens")}
    assert tokens == {"v.mp4", "i0.jpg", "i3.jpg", "words.txt"}  # i2.jpg has no good caption, i1.jpg waits


def failing(monkeypatch, errors):
    """Documents of the samples of these uris fail, each with its error."""
    whole = tokens.TokenWorker._document_row

    def fail(self, sample, clip, ids):
        if sample["uri"] in errors:
            raise errors[sample["uri"]]
        return whole(self, sample, clip, ids)

    monkeypatch.setattr(tokens.TokenWorker, "_document_row", fail)


@pytest.fixture(scope="module")
def sound(dump, recipe, tmp_path_factory):
    return made(dump, recipe, tmp_path_factory.mktemp("sound") / "out", "rules.image_resolution.min=0").root


def test_exceptions_while_tokenizing_are_the_samples(dump, recipe, sound, tmp_path, monkeypatch):
    out = shutil.copytree(sound, tmp_path / "out")
    without(out, "tokens", "failures")
    errors = {
        "i0.jpg": ValueError("half \ud800 a word"),
        "i1.jpg": DataError("a grid is 1 to 4,096 codes high"),
        "i2.jpg": MemoryError(),
        "v.mp4": AssertionError(),
    }
    failing(monkeypatch, errors)
    made(dump, recipe, out, "rules.image_resolution.min=0")
    failures = asked(out, "SELECT uri, f.reason, f.reason_class FROM failures f JOIN samples USING (sample_id)")
    found = {row["uri"]: (row["reason_class"], row["reason"]) for row in failures}
    assert found.pop("strip.jpg")[0] == "item"
    assert found == {
        "i0.jpg": ("machine", "error: ValueError: half ? a word"),
        "i1.jpg": ("item", "error: DataError: a grid is 1 to 4,096 codes high"),
        "i2.jpg": ("machine", "out_of_memory: MemoryError"),
        "v.mp4": ("machine", "error: AssertionError: "),
    }
    whole, left = ({str(row) for row in rows(folder, "tokens")} for folder in (sound, out))
    assert left < whole
    assert len(left) == len(whole) - len(errors)


def test_the_machine_s_faults_stop_the_run_and_leave_no_row(dump, recipe, sound, tmp_path, monkeypatch):
    out = shutil.copytree(sound, tmp_path / "out")
    without(out, "tokens", "failures")
    for error in (
        OSError(errno.ENOSPC, "No space left on device", "tokens.parquet"),
        MachineError("another run holds the folder"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ):
        with monkeypatch.context() as patch, pytest.raises(MachineError):
            failing(patch, {"i2.jpg": error})
            made(dump, recipe, out, "rules.image_resolution.min=0")
    made(dump, recipe, out, "rules.image_resolution.min=0")
    assert everything(out) == everything(sound)


def test_pictures_that_are_encoded_together_make_the_same_rows(dump, recipe, sound, tmp_path, monkeypatch):
    out, groups = shutil.copytree(sound, tmp_path / "out"), []
    without(out, "tokens", "failures")
    alone = VisionTokenizer.encode_images

    def encode_images(self, images):
        groups.append(len(images))
        return np.concatenate([alone(self, image[None]) for image in images])

    monkeypatch.setattr(VisionTokenizer, "pictures_at_once", 3)
    monkeypatch.setattr(VisionTokenizer, "encode_images", encode_images)
    made(dump, recipe, out, "rules.image_resolution.min=0")
    assert everything(out) == everything(sound)
    # Four of 240 x 200, in two groups, and one of another shape.
    assert sorted(groups) == [1, 1, 3]
