"""From a checkpoint to one that draws whole pictures: candidates, export, import, training, generate."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from toy_run import reelmill, toy_run

from reelmill.config import from_dict
from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.decoding import learned_by
from reelmill.eval.generation.media_files import read_clip, read_settings
from reelmill.eval.preference import Candidates
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.provenance import Training
from reelmill.train.run import train

SIZE = ("--area", 16 * 24, "--ratio", "3:2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with `toy` (a checkpoint), `drawn` (candidates of it), `data` (its run folder) and `dida` (adapted)."""
    out = tmp_path_factory.mktemp("dida")
    run = toy_run(out / "first")
    reelmill("prefer", "sample", run, "--out", out / "drawn", "--prompt", "six codes", "--count", 3, *SIZE)
    said = reelmill("prefer", "export", out / "drawn", out / "drawn.jsonl")
    command = shlex.split(said[said.index("tokens import") :].replace("FOLDER", str(out / "data")))
    reelmill(*command)
    last = checkpoint.latest(run / "checkpoints")
    config = from_dict(TrainConfig, checkpoint.read_state(last).recipe)
    model = replace(config.model, dropout=0.0, attention_dropout=0.0)
    config = replace(config, objective="dida", init=str(last), model=model, steps=2)
    train(config, [out / "data"], out / "dida", log_fn=lambda _: None)
    return out


def facts_of(*arguments):
    """What `generate --json` says of each file."""
    return [json.loads(line) for line in reelmill("generate", *arguments, "--json").splitlines() if line[:1] == "{"]


def test_what_is_trained_on_are_the_very_codes_that_were_drawn(made):
    candidates = Candidates(made / "drawn")
    (of_prompt,) = candidates.by_prompt.values()
    drawn = sorted(tokens.tolist() for tokens, _ in candidates.read(of_prompt))
    corpus = Corpus([made / "data"], None, DataConfig(heldout=0.0))
    assert sorted(tokens.tolist() for tokens in corpus.read(np.arange(len(corpus)))) == drawn


def test_a_picture_takes_the_passes_that_were_asked_for_and_reproduces(made, tmp_path):
    asked = ("--prompt", "six codes", *SIZE, "--decode", "dida", "--steps", 3, "--seed", 7, "--guidance", 2)
    found = []
    for name in ("x", "y"):
        path = tmp_path / f"{name}.png"
        found += facts_of(made / "dida", *asked, "--out", path)
        assert found[-1]["file"] == str(path)
    # Two rows of a prompt are read, then three passes over the picture: 2 rows of 3 codes, their ends, EOF, EOI, EOS.
    assert found[0]["passes"] == 2 + 3
    assert found[0]["tokens"] == 2 * 4 + 3
    assert found[0]["cpu_seconds"] > 0
    assert read_settings(tmp_path / "x.png").items() >= {"decode": "dida", "steps": 3}.items()
    assert np.array_equal(Image.open(tmp_path / "x.png"), Image.open(tmp_path / "y.png"))


def test_every_way_says_what_a_picture_took(made, tmp_path):
    passes = {}
    for decode in ("plain", "exact-parallel"):
        asked = ("--prompt", "a", *SIZE, "--decode", decode, "--seed", 1, "--count", 2)
        facts = facts_of(made / "dida", *asked, "--out", tmp_path / "x.png")
        assert [one["tokens"] for one in facts] == [11, 11]
        passes[decode] = [one["passes"] for one in facts]
    assert passes["plain"] == [12, 11]  # one that reads the prompt, which the second copies, and one a token
    assert max(passes["exact-parallel"]) < 12


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (("--count", 2), "exact-parallel"),
        (("--count", 5), "plain"),
        (("--count", 5, "--rows", 4), "exact-parallel"),
        (("--count", 3, "--guidance", 2), "plain"),  # of two rows each
    ],
)
def test_auto_looks_at_what_is_decoded_together(made, tmp_path, options, taken):
    asked = ("--prompt", "a", *SIZE, "--decode", "auto", *options, "--out", tmp_path / "x.png")
    assert {one["decode"] for one in facts_of(made / "dida", *asked)} == {taken}


def test_a_checkpoint_says_what_it_has_learned(made, tmp_path):
    adapted = checkpoint.latest(made / "dida/checkpoints")
    first = checkpoint.latest(made / "first/toy/checkpoints")
    assert (learned_by(adapted), learned_by(first)) == (("dida",), ())
    refused = r"has not learned to decode by dida; it can do plain, exact-parallel, rows, auto"
    with pytest.raises(ConfigError, match=refused):
        reelmill("generate", first, "--prompt", "a", "--decode", "dida", "--out", tmp_path / "x.png")
    with pytest.raises(ConfigError, match=refused):
        reelmill("prefer", "sample", first, "--prompt", "a", "--decode", "dida", "--out", tmp_path / "c")
    with pytest.raises(ConfigError, match=refused):
        reelmill("serve", first, "--decode", "dida", "--port", 0)
    with pytest.raises(ConfigError, match="--steps is 3, and --decode is plain; only --decode dida has it"):
        reelmill("generate", adapted, "--prompt", "a", "--steps", 3)
    with pytest.raises(ConfigError, match="--steps is 0; it must be at least 1"):
        reelmill("generate", adapted, "--prompt", "a", "--decode", "dida", "--steps", 0)


def test_an_export_knows_its_tokenizer_and_what_it_has_learned(made, tmp_path):
    reelmill("export", made / "dida", tmp_path / "hf", "--dtype", "float32")
    reelmill("export", tmp_path / "hf", tmp_path / "again", "--dtype", "float32")
    adapted = checkpoint.latest(made / "dida/checkpoints")
    assert Training.of(adapted) == Training.of(tmp_path / "hf") == Training.of(tmp_path / "again")
    asked = ("--prompt", "six codes", *SIZE, "--decode", "dida", "--steps", 3, "--seed", 7)
    drawn = []
    for number, place in enumerate((adapted, tmp_path / "again")):
        reelmill("generate", place, *asked, "--out", tmp_path / f"{number}.png")
        drawn.append(np.asarray(Image.open(tmp_path / f"{number}.png")))
    assert np.array_equal(*drawn)


def test_an_export_states_no_key_that_this_version_does_not_know(made, tmp_path):
    reelmill("export", made / "dida", tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    described["reelmill_training"]["curriculum"] = "none"
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(DataError, match=r"unknown key 'reelmill_training.curriculum'.*Export the model again"):
        reelmill("generate", tmp_path, "--prompt", "a", "--out", tmp_path / "x.png")


def test_candidates_of_other_ways_are_others(made, tmp_path):
    asked = ("--prompt", "a", "--count", 2, *SIZE, "--decode", "dida", "--steps", 2)
    reelmill("prefer", "sample", made / "dida", "--out", tmp_path / "c", *asked)
    assert Candidates(tmp_path / "c").settings["decode"] == "dida 2"
    assert Candidates(made / "drawn").settings["decode"] == "plain"
    with pytest.raises(ConfigError, match="decode: dida 2 -> dida 5"):
        reelmill("prefer", "sample", made / "dida", "--out", tmp_path / "c", *asked[:-1], 5)


def test_candidates_of_earlier_versions_were_decoded_plainly(made, tmp_path):
    (path,) = (made / "drawn/candidates").glob("*.parquet")
    (tmp_path / "old/candidates").mkdir(parents=True)
    pq.write_table(pq.read_table(path).drop(["decode"]), tmp_path / "old/candidates" / path.name)
    old, new = Candidates(tmp_path / "old"), Candidates(made / "drawn")
    assert (old.settings, old.by_id.keys()) == (new.settings, new.by_id.keys())
    asked = ("--out", tmp_path / "old", "--prompt", "six codes", "--count", 3, *SIZE)
    assert "all candidates are there already" in reelmill("prefer", "sample", made / "first/toy", *asked)


def test_a_page_has_text_and_whole_pictures(made, tmp_path):
    studio = Studio.open(made / "dida", decode="dida", steps=2)
    assert studio.decoding.label == "dida 2"
    pages = dict(studio.pages(["six codes"], max_new_tokens=40))
    assert len(pages) == 1


def test_a_video_goes_from_its_first_picture_to_its_last(made, tmp_path):
    places = [tmp_path / f"{name}.png" for name in ("first", "last")]
    for number, place in enumerate(places):
        Image.new("RGB", (24, 16), (200 * number, 40, 90)).save(place)
    asked = ["--prompt", "a", "--seconds", 2, "--area", 16 * 24, "--decode", "dida", "--steps", 2]
    asked += [word for place in places for word in ("--image", place)]
    shown = []
    for seed in (1, 2):
        out = tmp_path / f"{seed}.mp4"
        reelmill("generate", made / "dida", *asked, "--seed", seed, "--out", out)
        assert read_settings(out)["image"] == [str(place) for place in places]
        shown.append(read_clip(out, 384, 8, 8.0, 2.0).frames.astype(int))
    assert shown[0].shape == (16, 16, 24, 3)
    away = np.abs(shown[0] - shown[1]).mean((1, 2, 3))
    assert max(away[0], away[-1]) < away[4:12].mean()  # two seeds agree at the ends, and not between
