"""The public interface of Python: what `import reelmill` offers."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from dumps import light_recipe, write_dump

import reelmill
from reelmill.curation.interfaces import Scorer
from reelmill.errors import ConfigError, DataError, ReelmillError
from reelmill.pipelines.curate import recipes
from reelmill.tokenize.vision import load

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def out(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def run(out):
    return reelmill.open_run(out)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("reelmill", ("torch", "ray", "duckdb", "pyarrow", "numpy", "typer")),
        ("reelmill.pipelines.curate.stats", ("torch", "ray", "av", "PIL", "cv2", "scenedetect", "onnxruntime")),
    ],
)
def test_importing_it_loads_nothing_heavy(module, heavy):
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_documented_and_typed():
    assert set(reelmill.__all__) <= set(dir(reelmill))
    for name in set(reelmill.__all__) - {"__version__"}:
        public = getattr(reelmill, name)
        assert inspect.getdoc(public), name
        assert f"reelmill.{name}(" in PAGE or f"`{name}`" in PAGE
    for name, member in inspect.getmembers(reelmill.Run):
        if not name.startswith("_"):
            assert inspect.getdoc(member), name
            assert f"`{name}" in PAGE, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        reelmill.nothing  # noqa: B018


def test_tables_are_pyarrow_tables(run):
    assert isinstance(run.items(), pa.Table)
    assert (run.items().num_rows, run.samples().num_rows, run.verdicts().num_rows) == (9, 11, 11)
    assert run.tokens(["doc_id", "n_tokens"]).column_names == ["doc_id", "n_tokens"]
    assert run.captions().num_rows == 14
    assert run.failures().num_rows == 0
    with pytest.raises(ConfigError, match="samples has no column 'motion_scor'; did you mean 'motion_score'"):
        run.samples(["motion_scor"])


def test_sql_binds_parameters_and_refuses_what_is_no_query(run, tmp_path):
    assert run.sql("SELECT count(*) AS n FROM samples WHERE kind = ?", ["video"])["n"].to_pylist() == [6]
    with pytest.raises(ConfigError, match="one SELECT is allowed"):
        run.sql("DROP VIEW samples")
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match="the query failed"):
        run.sql(f"SELECT * FROM '{tmp_path}/secret.csv'")


def test_selections_are_named_and_hold_what_they_keep(run):
    assert run.selections == ["default"]
    kept = run.selection()
    assert kept.num_rows == 9
    assert set(kept["status"].to_pylist()) == {"kept"}
    assert kept.column_names == run.samples().column_names
    with pytest.raises(ConfigError, match=r"no selection 'defualt'.*did you mean 'default'"):
        run.selection("defualt")


def test_documents_are_parsed(run):
    found = list(run.documents())
    assert len(found) == 9
    for row, document in found:
        assert document.kind == row["kind"]
        assert len(document.tokens) == row["n_tokens"]
        assert document.grid == (row["grid_t"], row["grid_h"], row["grid_w"])
    captions = {row["sample_id"]: row["caption"] for row in run.samples().to_pylist()}
    assert all(document.caption == captions[row["sample_id"]] for row, document in run.documents(kinds=["video"]))
    assert len(list(run.documents(kinds=["image"]))) == 3
    assert len(list(run.documents(None))) == 9


def test_a_row_decodes_to_what_the_tokenizer_gives(run):
    rows = {row["kind"]: row for row in run.tokens().to_pylist()}
    tokenizer = load("reelmill-tok-xs")
    document = run.parse(rows["video"])
    assert np.array_equal(run.decode(rows["video"]), tokenizer.decode(document.codes))
    assert np.array_equal(run.decode(document), tokenizer.decode(document.codes))
    assert np.array_equal(run.decode(rows["image"])[0], tokenizer.decode_image(run.parse(rows["image"]).codes[0]))
    with pytest.raises(DataError, match="the document has 0 pictures"):
        run.decode(rows["text"])
    with pytest.raises(DataError, match="has no tokens of fingerprint"):
        run.decode({**rows["video"], "fingerprint": "0" * 64})


def test_another_tokenizer_than_the_one_that_made_the_codes_is_refused(out):
    run = reelmill.open_run(out, tokenizer="reelmill-tok-s")
    with pytest.raises(DataError, match="but reelmill-tok-s is"):
        run.decode(next(run.documents(kinds=["image"]))[1])


def test_frames_are_those_of_the_sample(run):
    videos = run.sql("SELECT * FROM samples WHERE uri = 'v0.mp4' ORDER BY start_s").to_pylist()
    first, second = (run.frames(video["sample_id"]) for video in videos)
    assert first.shape == (5, 120, 160, 3)  # 2.5 s at 2 frames/s
    assert first.dtype == np.uint8
    assert np.abs(first[0].astype(int) - second[0]).mean() > 20  # another scene
    assert run.frames(videos[0]["sample_id"], fps=8, short_side=60).shape == (20, 60, 80, 3)
    image = run.sql("SELECT * FROM samples WHERE uri = 'i0.jpg'").to_pylist()[0]
    assert run.frames(image["sample_id"], short_side=1000).shape == (1, 520, 560, 3)  # never enlarged
    text = run.sql("SELECT * FROM samples WHERE kind = 'text'").to_pylist()[0]
    with pytest.raises(DataError, match="is a text"):
        run.frames(text["sample_id"])
    with pytest.raises(DataError, match="no sample 'nothing'"):
        run.frames("nothing")


def test_scores_are_those_of_the_curation(run):
    video = run.sql("SELECT * FROM samples WHERE uri = 'v1.mp4' ORDER BY start_s").to_pylist()[0]
    frames = run.frames(video["sample_id"], fps=video["fps"])
    found = reelmill.score(frames, ["quality", "motion_dis", "colourfulness"], fps=video["fps"])
    assert found == {name: video[name] for name in ("quality_score", "motion_dis", "colourfulness")}


def test_frames_as_sampled_have_no_native_neighbours():
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 3), dtype=np.uint8)
    assert reelmill.score(frames, {"motion_jitter": {}}) == {"motion_jitter": None}
    assert 0 < reelmill.score(frames, {"motion_jitter": {}}, fps=2.0)["motion_jitter"] <= 1
    assert reelmill.score(frames[:1], ["motion_dis"]) == {"motion_dis": None}  # of an image


def test_frames_of_a_clip_are_sampled_and_scaled_as_in_curation():
    class Seen(Scorer):
        """What a scorer gets."""

        columns: ClassVar = {"times": "VARCHAR", "shape": "VARCHAR"}

        def score(self, samples):
            (sample,) = samples
            return [{"times": str(sample.frames.times.tolist()), "shape": str(sample.frames.images.shape)}]

    clip = np.zeros((50, 512, 600, 3), np.uint8)
    assert reelmill.score(clip, [Seen()], fps=24.0) == {
        "times": "[0.0, 0.5, 1.0, 1.5, 2.0]",
        "shape": "(5, 256, 300, 3)",
    }
    assert reelmill.score(clip[:3], [Seen()])["shape"] == "(3, 256, 300, 3)"


@pytest.mark.parametrize(
    ("frames", "scorers", "fps", "words"),
    [
        (np.zeros((2, 8, 8, 3)), ["quality"], None, r"frames are float64 \[2, 8, 8, 3\]"),
        (np.zeros((8, 8, 3), np.uint8), ["quality"], None, r"frames are uint8 \[8, 8, 3\]"),
        ([], ["quality"], None, "frames are list"),
        (np.zeros((0, 8, 8, 3), np.uint8), ["quality"], None, "there are no frames"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["qualty"], None, "no scorer is called 'qualty'; did you mean 'quality'"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"motion_raft": {"pair": 1}}, None, "did you mean 'pairs'"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["quality"], 0.0, "fps is 0.0"),
    ],
)
def test_what_cannot_be_scored_is_said(frames, scorers, fps, words):
    with pytest.raises(ReelmillError, match=words):
        reelmill.score(frames, scorers, fps=fps)


def test_batches_are_a_function_of_the_step(out):
    batches = reelmill.batches(out, context=320, rows=2)
    assert len(batches) > 1
    assert batches.vocab.size == 4563
    again = reelmill.batches([out], context=320, rows=2)
    for step in (len(batches) + 1, 0, 1):
        assert np.array_equal(batches[step].tokens, again[step].tokens)
        assert batches[step].tokens.shape == batches[step].weights.shape == (2, 320)
        assert sum(batches[step].lengths) == 2 * 320
    assert [batch.documents for batch in batches] == [batches[step].documents for step in range(len(batches))]
    assert {n for batch in batches for n in batch.documents} - {-1} == set(range(9))
    with pytest.raises(IndexError):
        batches[-1]


def test_ranks_share_the_rows_of_a_step(out):
    whole = reelmill.batches(out, context=320, rows=2)
    halves = [reelmill.batches(out, context=320, rows=1, rank=rank, ranks=2) for rank in range(2)]
    assert len(halves[0]) == len(whole)
    for step in range(len(whole)):
        together = np.concatenate([half[step].tokens for half in halves])
        assert np.array_equal(together, whole[step].tokens)


def test_held_out_documents_are_in_no_batch(out):
    batches = reelmill.batches(out, context=320, heldout=0.3, kinds=["video", "image"])
    held = {n for batch in batches.heldout for n in batch.documents}
    trained = {n for step in range(3 * len(batches)) for n in batches[step].documents}
    assert held
    assert not (held & trained) - {-1}
    assert reelmill.batches(out, context=320).heldout is None


def test_settings_of_the_data_are_checked(out):
    whole = reelmill.batches({str(out): 1.0}, context=320, set={"vision_weight": 0.25})
    assert any(0.25 in whole[step].weights for step in range(len(whole)))
    with pytest.raises(ConfigError, match="unknown key 'vision_weigth'; did you mean 'vision_weight'"):
        reelmill.batches(out, context=320, set=["vision_weigth=1"])
    with pytest.raises(DataError, match="no token shards"):
        reelmill.batches(out / "samples", context=320)


def test_curate_makes_a_run_and_goes_on_with_it(tmp_path, capsys):
    import cv2
    import torch

    dump = write_dump(tmp_path / "dump", videos=1)
    recipe = recipes.load(str(light_recipe(tmp_path / "light.toml")))
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    try:
        run = reelmill.curate(dump, tmp_path / "out", recipe=recipe, executor="inline", limit=2, quiet=True)
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)  # those of the notebook
    finally:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    assert capsys.readouterr().out == ""
    assert run.items().num_rows == 2
    assert repr(run) == f"reelmill.open_run({str(tmp_path / 'out')!r})"
    more = reelmill.curate([dump], tmp_path / "out", recipe=tmp_path / "light.toml", executor="inline")
    assert "plan" in capsys.readouterr().out
    assert more.items().num_rows > 2
    with pytest.raises(ConfigError, match=r"rules\.colour\.min: 5\.0 -> 0\.5"):
        reelmill.curate(dump, tmp_path / "out", recipe=run.recipe, set={"rules.colour.min": 0.5}, executor="inline")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="is no run folder"):
        reelmill.open_run(tmp_path)
