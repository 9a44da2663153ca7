"""`reelmill explain`: one sample by id, prefix or uri; what is not one sample is named."""

import json

import pytest
from dumps import light_recipe, write_dump
from PIL import Image
from rich.console import Console
from toy_run import reelmill

from reelmill.errors import ConfigError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.report.explain import explain


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    sets = ["engine.executor=inline", "rules.duration.min=2.3"]
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), sets)
    curate([write_dump(folder / "dump", videos=2)], folder / "out", recipe, CurateOptions(), Console(quiet=True))
    return folder / "out"


@pytest.fixture(scope="module")
def samples(out):
    with LedgerQueries(out) as ledger:
        return ledger.rows("SELECT * FROM samples ORDER BY uri, start_s")


def test_a_rejected_clip_by_a_prefix_of_its_id(out, samples):
    (short,) = [s for s in samples if s["uri"] == "v1.mp4" and s["rule"] == "duration"]
    found = explain(out, short["sample_id"][:9])
    assert found["facts"]["sample_id"] == short["sample_id"]
    by_name = {rule["rule"]: rule for rule in found["rules"]}
    length = short["end_s"] - short["start_s"]
    assert by_name["duration"]["outcome"] == "fails"
    assert by_name["duration"]["margin"] == pytest.approx(length - 2.3) and length < 2.3
    assert by_name["image_resolution"]["outcome"] == "does not apply"
    assert by_name["motion"]["outcome"] == "passes"
    assert by_name["motion"]["margin"] == pytest.approx(min(short["motion_score"], 0.5 - short["motion_score"]))
    assert found["documents"] == [] and found["verdict"]["rule"] == "duration"


def test_a_kept_image_by_its_uri(out):
    found = explain(out, "i0.jpg")
    assert found["verdict"]["status"] == "kept"
    (document,) = found["documents"]
    assert document["n_vision"] == document["grid_h"] * document["grid_w"] > 0
    assert found["scores"]["colourfulness"] > 0
    assert found["selections"] == [{"selection": "default", "status": "kept", "rule": None}]


def test_what_is_not_one_sample_is_named(out, samples):
    with pytest.raises(ConfigError, match="several") as raised:
        explain(out, "v0.mp4")
    assert all(s["sample_id"] in str(raised.value) for s in samples if s["uri"] == "v0.mp4")
    with pytest.raises(ConfigError, match=r"refused \(item\): not_a_video"):
        explain(out, "corrupt0.mp4")
    for nothing in ("nowhere.mp4", "", "%", "' OR true --"):
        with pytest.raises(ConfigError, match="no sample"):
            explain(out, nothing)


def test_the_command_in_json_and_as_a_picture(out, samples, tmp_path):
    target = tmp_path / "clip.png"
    wanted = next(s["sample_id"] for s in samples if s["kind"] == "video" and s["status"] == "kept")
    assert json.loads(reelmill("explain", out, wanted, "--json", "--png", target))["facts"]["sample_id"] == wanted
    with Image.open(target) as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width == 1200
        colours = picture.convert("RGB").resize((60, 60)).getcolors(3600)
        assert len(colours) > 200, "the frames are in it"
    said = reelmill("explain", out, wanted)
    assert wanted in said and "motion" in said and "Documents" in said


def test_a_text_has_a_picture_of_its_words(out, tmp_path):
    from reelmill.pipelines.report.explain_png import draw

    draw(out, explain(out, "text0.txt"), tmp_path / "text.png")
    with Image.open(tmp_path / "text.png") as picture:
        assert picture.width == 1200
