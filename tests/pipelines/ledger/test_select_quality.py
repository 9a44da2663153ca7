"""Selections for quality fine-tuning: the best by several scores, stricter rules, tokens at another size."""

import io
import json
import shutil

import numpy as np
import pytest
from dumps import light_recipe
from PIL import Image, ImageFilter
from rich.console import Console
from videos import textured

from reelmill.errors import ConfigError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import read_table, write_table
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.presets import QFT_AREA
from reelmill.pipelines.ledger.select import SelectOptions, print_selected, select
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize.shards import ShardIndex

SMALL = ("rules.image_resolution.min=250000", "tokens.area=9216")


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """Six pictures, from sharp to blurred; the sharpest is small."""
    folder = tmp_path_factory.mktemp("dump") / "crawl"
    folder.mkdir()
    for n in range(6):
        picture = Image.fromarray(textured(n, 520 if n else 400, 560)).filter(ImageFilter.GaussianBlur(n))
        picture.save(folder / f"i{n}.png")
        (folder / f"i{n}.txt").write_text(f"picture {n}")
    return folder


@pytest.fixture(scope="module")
def made(dump, tmp_path_factory):
    out, recipe = tmp_path_factory.mktemp("made") / "out", tmp_path_factory.mktemp("recipe") / "light.toml"
    light_recipe(recipe)
    run(dump, out, recipe)
    return out


@pytest.fixture
def out(made, tmp_path):
    return shutil.copytree(made, tmp_path / "out")


def run(dump, out, recipe, *assignments, **options):
    wanted = ["engine.executor=inline", "rules.image_resolution.min=100000", *assignments]
    curate([dump], out, recipes.load(str(recipe), wanted), CurateOptions(**options), Console(quiet=True))


def chosen(out, name="best"):
    """The numbers of the pictures that the selection keeps."""
    query = f"""SELECT uri FROM verdicts v JOIN samples s USING (sample_id)
        WHERE v.selection = '{name}' AND v.status = 'kept' ORDER BY uri"""
    return [int(row["uri"][1]) for row in ask(out, query)]


def ask(out, query):
    with LedgerQueries(out) as ledger:
        return ledger.rows(query)


def printed(out, name="best", *, assignments=(), **options):
    console = Console(file=io.StringIO(), width=300)
    print_selected(select(out, name, SelectOptions(assignments, **options), console), console)
    return console.file.getvalue()


def scores(out, column):
    return np.array([row[column] for row in ask(out, f"SELECT {column} FROM samples ORDER BY uri")])


def test_the_best_share_by_the_mean_of_two_scores_is_kept(out):
    found = np.stack([scores(out, column) for column in ("quality_score", "colourfulness")])
    mean = ((found - found.mean(1, keepdims=True)) / found.std(1, keepdims=True)).mean(0)
    said = printed(out, keep=0.5, scores=["quality_score", "colourfulness"])
    assert chosen(out) == sorted(np.argsort(mean)[3:].tolist())
    assert f"{np.median(mean):.3f} deviations" in said and "image_rank" in said


def test_a_score_that_a_sample_lacks_does_not_count_in_its_mean(out):
    path = out / "samples" / "unit-000000.parquet"  # pictures 0 to 2
    table = read_table(path)
    at = table.schema.get_field_index("colourfulness")
    first = table["colourfulness"].to_pylist()[0]
    write_table(path, table.set_column(at, table.schema.field(at), [[first, None, None]]))
    found = np.stack([scores(out, column).astype(float) for column in ("quality_score", "colourfulness")])
    deviations = (found - np.nanmean(found, 1, keepdims=True)) / np.nanstd(found, 1, keepdims=True)
    printed(out, keep=0.5, scores=["quality_score", "colourfulness"], assignments=['rules.colour.null="keep"'])
    assert chosen(out) == sorted(np.argsort(np.nanmean(deviations, 0))[3:].tolist())


def test_without_any_of_the_scores_that_a_preset_ranks_by_it_says_what_to_do(out):
    with pytest.raises(ConfigError, match=r"has a score of hps_score, mps_score, aesthetic_score.*--score ranks by"):
        printed(out, preset="qft", assignments=SMALL)
    assert not (out / "verdicts" / "best.parquet").exists()


def test_the_preset_asks_for_larger_pictures_and_tokenizes_them_anew(dump, out, tmp_path):
    said = printed(out, preset="qft", keep=0.4, scores=["quality_score"], assignments=SMALL)
    assert chosen(out) == [1, 2] and "2 kept samples have no tokens yet" in said
    said = printed(out, preset="qft", keep=0.4, scores=["quality_score"], assignments=SMALL, complete=True)
    grids = ask(
        out, "SELECT fingerprint, count(*) AS n, max(grid_h * grid_w) AS codes FROM tokens GROUP BY 1 ORDER BY n"
    )
    assert [row["n"] for row in grids] == [2, 6] and grids[0]["codes"] > 2 * grids[1]["codes"]
    own = grids[0]["fingerprint"][:12]
    assert f"train on them with --selection best --set data.fingerprint={own}" in said
    assert len(ShardIndex(out, fingerprint=own, selection="best")) == 2
    assert json.loads((out / "run.json").read_text())["tokens_fingerprint"] == grids[1]["fingerprint"]
    assert verify(RunFolder(out)).problems == []


def test_later_pictures_are_judged_by_the_same_numbers(dump, out, tmp_path):
    printed(out, keep=0.4, scores=["quality_score"])
    before = ask(out, "SELECT DISTINCT threshold FROM verdicts WHERE selection = 'best' AND rule = 'image_rank'")
    later = tmp_path / "later"
    later.mkdir()
    for n in (7, 8):
        picture = Image.fromarray(textured(n, 520, 560)).filter(ImageFilter.GaussianBlur(0 if n == 7 else 5))
        picture.save(later / f"i{n}.png")
        (later / f"i{n}.txt").write_text(f"picture {n}")
    recipe = tmp_path / "light.toml"
    light_recipe(recipe)
    run(later, out, recipe)
    after = ask(out, "SELECT DISTINCT threshold FROM verdicts WHERE selection = 'best' AND rule = 'image_rank'")
    assert before == after and 7 in chosen(out) and 8 not in chosen(out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "gft"}, r"no preset 'gft'; did you mean 'qft'"),
        ({"keep": 0.0, "scores": ["quality_score"]}, r"--keep is 0"),
        ({"scores": ["quality_score"]}, r"say with --keep"),
    ],
)
def test_what_cannot_be_ranked(out, options, message):
    with pytest.raises(ConfigError, match=message):
        printed(out, **options)


def test_the_presets_bounds_are_those_of_its_tokens(out):
    changes = SelectOptions(preset="qft").changes()
    recipe = recipes.load("video", changes.assignments)
    assert recipe.tokens.area == recipe.rules["image_resolution"].min == recipe.rules["resolution"].min == QFT_AREA
    assert recipe.rules["motion"].min > recipes.video().rules["motion"].min
