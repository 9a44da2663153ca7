"""Embeddings of a run folder, `reelmill similar` and semantic duplicates: CLIP's real path with a tiny random model."""

import json
import re
import shutil
from pathlib import Path

import copies
import numpy as np
import pytest
import torch
from command_line import CommandLine
from dumps import curate_here, light_recipe
from PIL import Image
from tiny_clip import tiny_clip

from reelmill import weights
from reelmill.curation.duplicates.config import DuplicatesConfig
from reelmill.curation.embeddings import EMBEDDINGS, Block, close_pairs, nearest
from reelmill.curation.scorers import aesthetic
from reelmill.curation.scorers.embedding import embedder, unit
from reelmill.curation.scoring import ScoreConfig
from reelmill.errors import ConfigError, WeightsError
from reelmill.orchestration.embeddings import blocks, write_vectors
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate.recipes import load
from reelmill.pipelines.ledger.similar import similar
from reelmill.pipelines.report.embedding_map import embedding_map, principal
from reelmill.pipelines.report.page import write_report

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PICTURES = ("china", "flower", "rocket", "astronaut")


def photograph(name):
    return np.asarray(Image.open(weights.path(f"media-{name}")).convert("RGB"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny CLIP, where the scorer finds it as the real one."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    clip = tiny_clip(folder, "tiny-for-similar", TINY)
    save_file({name: tensor.contiguous() for name, tensor in clip.state_dict().items()}, folder / "clip.safetensors")
    found = weights.path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aesthetic, "ARCHITECTURE", "tiny-for-similar")
        patch.setattr(
            weights,
            "path",
            lambda name: folder / "clip.safetensors" if name == aesthetic.CLIP_WEIGHTS else found(name),
        )
        yield clip


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    """A run folder of four photographs and copies of two of them."""
    folder = tmp_path_factory.mktemp("similar")
    (folder / "dump").mkdir()
    for name in PICTURES:
        Image.fromarray(photograph(name)).save(folder / "dump" / f"{name}.png")
    Image.fromarray(copies.scaled(photograph("china"), 0.9)).save(folder / "dump" / "china_small.png")
    Image.fromarray(copies.compressed(photograph("rocket"))).save(folder / "dump" / "rocket_again.png")
    recipe = recipe_of(folder)
    curate_here(folder / "dump", folder / "out", recipe)
    return folder / "out"


def recipe_of(folder, **options):
    score = ScoreConfig(scorers={"quality": {}, "embedding": {"model": "clip", **options}})
    return light_recipe(folder / "similar.toml", score=score, rules={})


def table(out):
    """uri and vector of each sample."""
    with LedgerQueries(out) as ledger:
        rows = ledger.rows("SELECT uri, sample_id, model, vector FROM embeddings JOIN samples USING (sample_id)")
    return {row["uri"]: row for row in rows}


def test_each_picture_has_a_vector_of_the_models(run, model):
    rows = table(run)
    assert len(rows) == 6 and {row["model"] for row in rows.values()} == {"clip"}
    image = Image.open(run.parent / "dump" / "china.png")
    seen = image.resize((round(image.width * 256 / image.height), 256), Image.Resampling.BILINEAR)
    assert np.asarray(rows["china.png"]["vector"]) @ embedder("clip")(np.asarray(seen)[None])[0] > 0.999
    assert np.linalg.norm(rows["china.png"]["vector"]) == pytest.approx(1, abs=1e-3)  # half precision


def test_nearest_to_a_sample_a_file_and_words(run, model, monkeypatch, capsys):
    rows = table(run)
    command = CommandLine(monkeypatch, capsys)
    ended = command("similar", run, rows["china.png"]["sample_id"], "--most", "2", "--json")
    found = json.loads(ended.out)
    assert found[0]["uri"] == "china_small.png" and len(found) == 2
    assert found[0]["similarity"] == pytest.approx(
        float(np.dot(rows["china.png"]["vector"], rows["china_small.png"]["vector"])), abs=1e-3
    )
    again = command("similar", run, run.parent / "dump" / "rocket.png", "--most", "2", "--json")
    assert {row["uri"] for row in json.loads(again.out)} == {"rocket.png", "rocket_again.png"}
    words = similar(run, "a rocket on its pad " * 100, 6)  # far too long for a path
    with torch.inference_mode():
        text = unit(embedded_words(model, "a rocket on its pad " * 100))
    wanted = sorted(rows, key=lambda uri: -float(np.dot(rows[uri]["vector"], text)))
    assert [row["uri"] for row in words] == wanted


def embedded_words(model, words):
    import open_clip

    return model.encode_text(open_clip.get_tokenizer("tiny-for-similar")([words]))[0].numpy()


def test_what_shows_the_same_is_rejected_by_its_bound(run, tmp_path):
    rows = table(run)
    vectors = {uri: np.asarray(row["vector"], np.float32) for uri, row in rows.items()}
    copy = float(vectors["china.png"] @ vectors["china_small.png"])
    others = max(float(vectors["china.png"] @ vectors[uri]) for uri in PICTURES[1:] for uri in [f"{uri}.png"])
    assert others < copy
    bound = (copy + max(others, 0.9)) / 2
    recipe = run.parent / "similar.toml"
    semantic = [f"duplicates.min_semantic_similarity={bound}", "duplicates.semantic=true"]
    dump, out = run.parent / "dump", shutil.copytree(run, tmp_path / "out")
    curate_here(dump, out, recipe, *semantic, update=True)
    with LedgerQueries(tmp_path / "out") as ledger:
        found = {row["uri"]: row for row in ledger.rows("SELECT * FROM samples")}
    lost = found["china_small.png"]
    assert (lost["status"], lost["rule"], lost["duplicate_method"]) == (
        "rejected",
        "semantic_duplicate",
        "embedding_clip",
    )
    assert lost["value"] == pytest.approx(copy, abs=1e-3) and lost["threshold"] == bound
    assert lost["duplicate_of"] == found["china.png"]["item_id"]
    assert found["china.png"]["status"] == "kept"
    curate_here(dump, tmp_path / "out", recipe, update=True)
    with LedgerQueries(tmp_path / "out") as ledger:
        assert ledger.rows("SELECT DISTINCT status FROM samples") == [{"status": "kept"}]


def test_what_is_forgotten_has_no_vector(run, tmp_path, monkeypatch, capsys):
    shutil.copytree(run, tmp_path / "out")
    command = CommandLine(monkeypatch, capsys)
    assert command("forget", tmp_path / "out", "--uri", "china.png").code == 0
    assert "china.png" not in table(tmp_path / "out") and len(table(tmp_path / "out")) == 5
    with LedgerQueries(tmp_path / "out") as ledger:
        assert ledger.rows("SELECT count(*) AS n FROM embeddings") == [{"n": 5}]
    assert command("verify", tmp_path / "out").code == 0


def test_a_lost_file_of_vectors_is_made_again_by_its_cure(run, tmp_path, monkeypatch, capsys):
    before = table(shutil.copytree(run, tmp_path / "out"))
    (tmp_path / "out" / "embeddings" / "unit-000000.parquet").unlink()
    ended = CommandLine(monkeypatch, capsys)("verify", tmp_path / "out")
    (cure,) = [line for line in ended.err.splitlines() if line.strip().startswith("rm -f")]
    for name in cure.partition(";")[0].split()[2:]:
        Path(name).unlink(missing_ok=True)
    curate_here(run.parent / "dump", tmp_path / "out", run.parent / "similar.toml")
    assert table(tmp_path / "out") == before


def test_without_weights_there_are_none_and_similar_says_so(run, tmp_path, monkeypatch, caplog):
    found = weights.path
    monkeypatch.setattr(weights, "path", lambda name: missing(name) if name == aesthetic.CLIP_WEIGHTS else found(name))
    curate_here(run.parent / "dump" / "china.png", tmp_path / "out", recipe_of(tmp_path))
    assert "embeddings are off" in caplog.text
    with pytest.raises(ConfigError, match="has no embeddings"):
        similar(tmp_path / "out", "anything", 3)


def missing(name):
    raise WeightsError(f"{name} is not on this machine")


@pytest.mark.parametrize(
    ("wanted", "of", "says"), [("", "", "similar to what"), ("x", "inception", "no embeddings of 'inception'")]
)
def test_what_means_nothing_is_an_error(run, wanted, of, says):
    with pytest.raises(ConfigError, match=says):
        similar(run, wanted, 3, of)


def test_semantic_duplicates_need_embeddings():
    with pytest.raises(ConfigError, match=r"add \[score.scorers.embedding\]"):
        load("video", ["duplicates.semantic=true"])
    assert DuplicatesConfig().semantic is False


def test_blocks_give_what_all_at_once_would(tmp_path):
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(50, 8)).astype(np.float32))
    ids = [f"{number:02}" for number in range(50)]
    parts = [Block(ids[start : start + 7], vectors[start : start + 7]) for start in range(0, 50, 7)]
    cosines = vectors @ vectors.T
    wanted = [ids[place] for place in np.argsort(-cosines[3])[:5]]
    assert [sample_id for sample_id, _ in nearest(vectors[3], parts, 5)] == wanted
    pairs = {(a, b) for part in parts for a, b, _ in close_pairs(part, parts, 0.6, 50)}
    assert pairs == {(ids[a], ids[b]) for a, b in zip(*np.nonzero(cosines >= 0.6), strict=True) if a != b} != set()
    assert {a: b for a, b, _ in close_pairs(Block(ids, vectors), parts, -1, 1)} == {
        ids[a]: ids[int(np.argsort(-cosines[a])[1])] for a in range(50)
    }


def test_a_vector_that_is_not_measured_again_stays(tmp_path):
    with RunFolder(tmp_path / "out").lock() as folder:
        row = {"sample_id": "a", "embedding_model": "clip", "vector": np.array([0.6, 0.8], np.float16)}
        write_vectors(folder, 0, [row, {"sample_id": "b", "embedding_model": None}])
        write_vectors(folder, 0, [{"sample_id": "a", "embedding_model": "clip"}])  # skipped, as its column says
        (block,) = blocks(folder, "clip", [0])
        assert block.sample_ids == ["a"] and block.vectors == pytest.approx(np.array([[0.6, 0.8]]), abs=1e-3)
        assert folder.read(folder.unit_path("embeddings", 0)).schema.equals(EMBEDDINGS)
        write_vectors(folder, 0, [{"sample_id": "a", "embedding_model": None}])
        assert not list(blocks(folder, "clip", [0]))


def test_the_report_has_a_map_of_all_samples(run):
    page = write_report(run).page.read_text(encoding="utf-8")
    with LedgerQueries(run) as ledger:
        samples = ledger.rows("SELECT uri, status FROM samples")
    mapped = page[page.index('id="map"') : page.index('id="tokens"')]
    assert f"{len(samples)} of {len(samples)} samples" in mapped
    dots = re.findall(r'<circle class="kept"[^>]*><title>([^,]*), kept', mapped)
    assert sorted(dots) == sorted(row["uri"] for row in samples if row["status"] == "kept")
    assert len(re.findall("<circle", mapped)) == len(samples)


def test_a_folder_without_embeddings_has_no_map(still_run, tmp_path):
    out = still_run(tmp_path)
    with LedgerQueries(out) as ledger:
        assert embedding_map(RunFolder(out), ledger) is None


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (3, 5)])
def test_the_axes_of_the_map_are_the_principal_ones(shape):
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32) * np.linspace(1, 3, shape[1])
    places, variance = principal(vectors.astype(np.float32))
    centered = vectors - vectors.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    wanted = left[:, :2] * lengths[:2]
    # float32 in, and the square of it goes through the eigenvalues.
    bound = 100 * shape[0] * np.finfo(np.float32).eps * lengths[0]
    assert np.abs(np.abs(places) - np.abs(wanted)).max() < bound
    assert variance == pytest.approx((lengths[:2] ** 2).sum() / (lengths**2).sum(), rel=1e-4)
    assert all(places[np.abs(places[:, axis]).argmax(), axis] > 0 for axis in (0, 1))


def test_samples_that_are_all_alike_have_a_map():
    places, variance = principal(np.ones((5, 4), np.float32))
    assert variance == 1.0 and not places.any()
