"""Preference training on toy pairs: what it learns and logs, where the reference comes from, what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rounding import training_bound
from typer.testing import CliRunner

from reelmill.config import override, to_toml
from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.cli import app
from reelmill.tokenize import documents
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import PairIndex, pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.data.config import DataConfig
from reelmill.train.dryrun import memory_by_part
from reelmill.train.objectives.preference.data import PairCorpus, PairLoader
from reelmill.train.recipes import recipe
from reelmill.train.run import train

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32


def make_pairs(count=24, seed=0):
    """Pictures of 3 x 4 codes: the chosen ones have low codes, the rejected ones high."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        prompt = f"picture {number % 12}"
        chosen, rejected = (
            documents.image_document(VOCAB, rng.integers(low, low + 32, (3, 4)), prompt) for low in (0, 32)
        )
        rows.append(pair_row(prompt, len(prompt) + 6, chosen, rejected))
    return rows


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    out = tmp_path_factory.mktemp("pairs")
    rows = make_pairs()
    write_pairs(out / "pairs/toy/a.parquet", rows[:10], Footer(FINGERPRINT, VOCAB, FINGERPRINT), row_group_tokens=200)
    write_pairs(out / "pairs/toy/b.parquet", rows[10:], Footer(FINGERPRINT, VOCAB, FINGERPRINT))
    return out


@pytest.fixture
def base(run_folder, toy_config, tmp_path):
    """A checkpoint to begin with."""
    model = replace(toy_config.model, dropout=0.0, attention_dropout=0.0)
    train(replace(toy_config, model=model, steps=2), [run_folder], tmp_path / "base", log_fn=lambda _: None)
    return tmp_path / "base"


@pytest.fixture
def config(toy_config, base):
    return replace(
        toy_config,
        model=replace(toy_config.model, dropout=0.0, attention_dropout=0.0),
        data=replace(toy_config.data, context=160, batch_rows=2, heldout=0.3, text_weight=0.0, vision_weight=1.0),
        optimizer=replace(toy_config.optimizer, lr=3e-3),
        objective="preference",
        init=str(base),
        steps=12,
        validate_every=6,
    )


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line["validation"] for line in lines if "validation" in line]


def test_margin_and_accuracy_rise_on_held_out_pairs(pairs, config, tmp_path):
    messages = []
    train(config, [pairs], tmp_path / "dpo", log_fn=messages.append)
    steps, validations = lines_of(tmp_path / "dpo")
    first, last = steps[0], steps[-1]
    apart = training_bound(config, VOCAB.size, steps=1) * abs(first["rejected"])  # of log-probabilities that are equal
    assert first["margin"] == pytest.approx(0.0, abs=apart), "the model still is the reference"
    assert first["kl"] == pytest.approx(0.0, abs=apart)
    assert first["loss"] == pytest.approx(np.log(2) + first["ntp"], abs=apart)
    assert last["margin"] > 0.3
    assert validations[-1]["margin"] > validations[0]["margin"] > 0
    assert validations[-1]["accuracy"] == 1.0
    assert validations[-1]["chosen"] > validations[-1]["rejected"]
    assert any("pairs in" in line and "pairs held out, by prompt" in line for line in messages)
    assert any("margin" in line and "accuracy" in line and line.startswith("step 12/12") for line in messages)
    assert any(line.startswith("validation after step 12") and "margin" in line for line in messages)


def test_held_out_pairs_share_no_prompt_with_the_others(pairs, config):
    corpus = PairCorpus([pairs], "", config.data)
    prompts = np.array(corpus.index.columns["prompt"].to_pylist())
    assert 0 < corpus.heldout.sum() < len(corpus)
    assert not set(prompts[corpus.heldout]) & set(prompts[~corpus.heldout])


def test_an_interrupted_run_goes_on_bit_by_bit_with_the_stored_reference(pairs, config, tmp_path):
    config = replace(config, steps=6, validate_every=6)
    whole = train(config, [pairs], tmp_path / "whole", log_fn=lambda _: None)
    messages = []
    train(config, [pairs], tmp_path / "parts", until=3, log_fn=messages.append)
    (stored,) = (tmp_path / "parts/reference").iterdir()
    written = stored.stat().st_mtime_ns
    parts = train(config, [pairs], tmp_path / "parts", log_fn=messages.append)
    assert stored.stat().st_mtime_ns == written
    assert sum("wrote" in line for line in messages) == 1
    expected, found = (checkpoint.load_decoder(path)[0].state_dict() for path in (whole, parts))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_stored_reference_says_what_a_frozen_model_says(pairs, config, tmp_path):
    config = replace(config, steps=4, validate_every=4)
    train(config, [pairs], tmp_path / "stored", log_fn=lambda _: None)
    frozen = override(config, ["preference.reference=model"])
    train(frozen, [pairs], tmp_path / "model", log_fn=lambda _: None)
    assert not (tmp_path / "model/reference").exists()
    for stored, model in zip(*(lines_of(tmp_path / name)[0] for name in ("stored", "model")), strict=True):
        apart = training_bound(config, VOCAB.size) * abs(model["rejected"])
        assert stored["loss"] == pytest.approx(model["loss"], abs=apart)
        assert stored["margin"] == pytest.approx(model["margin"], abs=apart)
    table = pq.read_table(next((tmp_path / "stored/reference").iterdir()))
    assert sorted(table["pair_id"].to_pylist()) == sorted(row["pair_id"] for row in make_pairs())
    assert all(value < 0 for value in table["chosen"].to_pylist())


def test_a_stored_reference_of_other_weights_is_not_taken(pairs, config, run_folder, toy_config, tmp_path):
    config = replace(config, steps=1)
    train(config, [pairs], tmp_path / "dpo", log_fn=lambda _: None)
    model = replace(toy_config.model, dropout=0.0, attention_dropout=0.0)
    train(replace(toy_config, model=model, seed=1, steps=1), [run_folder], tmp_path / "other", log_fn=lambda _: None)
    (tmp_path / "again").mkdir()
    (tmp_path / "dpo/reference").rename(tmp_path / "again/reference")
    train(replace(config, init=str(tmp_path / "other")), [pairs], tmp_path / "again", log_fn=lambda _: None)
    assert len(list((tmp_path / "again/reference").iterdir())) == 2
    (first,) = lines_of(tmp_path / "again")[0]
    assert first["margin"] == pytest.approx(0.0, abs=training_bound(config, VOCAB.size) * abs(first["rejected"]))


def test_accumulation_changes_nothing(pairs, config, tmp_path):
    config = replace(config, data=replace(config.data, batch_rows=4), steps=2)
    losses = []
    for micro in (1, 4):
        made = replace(config, data=replace(config.data, micro_rows=micro))
        train(made, [pairs], tmp_path / str(micro), log_fn=lambda _: None)
        losses.append([line["loss"] for line in lines_of(tmp_path / str(micro))[0]])
    assert losses[0] == pytest.approx(losses[1], rel=training_bound(config, VOCAB.size))


def test_prompts_never_count_and_text_in_answers_as_configured(tmp_path):
    chosen, rejected = (documents.text_document(VOCAB, "ask: " + words) for words in ("yes", "not at all"))
    write_pairs(tmp_path / "a.parquet", [pair_row("ask", 6, chosen, rejected)], Footer(FINGERPRINT, VOCAB, FINGERPRINT))
    for weight in (0.0, 1.0):
        data = DataConfig(context=64, batch_rows=1, heldout=0.0, text_weight=weight, structure_weight=0.5)
        loader = PairLoader(PairCorpus([tmp_path], "", data), np.array([0]), data, 0)
        (batch,) = loader.micro_batches(0, 0)
        counted = [[0.0] * 5 + [weight] * 3 + [0.5], [0.0] * 5 + [weight] * 10 + [0.5]]
        assert batch.weights[0, : 9 + 16].tolist() == counted[0] + counted[1]
        assert not batch.weights[0, 25:].any()


def test_what_cannot_be_trained_is_refused(pairs, config, tmp_path):
    def refused(error, words, **changes):
        with pytest.raises(error, match=words):
            train(
                replace(config, **changes), [changes.pop("data_folder", pairs)], tmp_path / "x", log_fn=lambda _: None
            )

    refused(ConfigError, "compare with the model that training begins with", init="")
    refused(ConfigError, "beta must be above 0", settings={"preference": {"beta": 0.0}})
    refused(ConfigError, "with ipo set it to 0", settings={"preference": {"loss": "ipo", "label_smoothing": 0.1}})
    refused(ConfigError, "z_loss is for the next token", z_loss=1e-4)
    refused(DataError, r"no pairs 'mine' in .*there are: toy", settings={"preference": {"pairs": "mine"}})
    refused(DataError, "none of the .* pairs fits a context of 32", data=replace(config.data, context=32))
    run = tmp_path / "a run"
    run.mkdir()
    (run / "plan.parquet").touch()
    with pytest.raises(DataError, match="is a run folder and has no preference pairs; `reelmill prefer sample`"):
        PairCorpus([run], "", config.data)
    refused(ConfigError, "pairs are taken as they are", data=replace(config.data, caption_drop=0.1))


def test_pairs_of_another_tokenizer_than_init_are_refused(pairs, config, tmp_path):
    rows = make_pairs(4)
    write_pairs(tmp_path / "pairs/a/a.parquet", rows, Footer(FINGERPRINT, VOCAB, "cd" * 32))
    with pytest.raises(ConfigError, match="its ids mean something else"):
        train(config, [tmp_path], tmp_path / "x", log_fn=lambda _: None)


def test_simpo_needs_no_reference(pairs, config, tmp_path):
    simpo = {"preference": {"loss": "simpo", "beta": 2.0}}
    train(
        replace(config, settings=simpo, steps=6, validate_every=6), [pairs], tmp_path / "simpo", log_fn=lambda _: None
    )
    steps, validations = lines_of(tmp_path / "simpo")
    assert "kl" not in steps[0]
    assert not (tmp_path / "simpo/reference").exists()
    assert steps[-1]["margin"] > steps[0]["margin"]
    assert validations[-1]["accuracy"] > 0.5


def test_the_command_trains_on_the_pairs_of_a_run_folder(pairs, config, tmp_path):
    (tmp_path / "mine.toml").write_text(to_toml(replace(config, steps=2, init="")))
    command = ["train", str(tmp_path / "mine.toml"), "--data", str(pairs), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*command, "--set", f"init={config.init}", "--set", "preference.loss=ipo"])
    assert done.exit_code == 0, done.output
    assert "pairs held out, by prompt" in done.output
    assert "margin" in done.output
    assert checkpoint.latest(tmp_path / "run/checkpoints").name == "step-000002"


def test_a_dry_run_counts_a_frozen_second_model():
    stored = recipe("dpo")
    frozen = override(stored, ["preference.reference=model"])
    memory = memory_by_part(frozen, 8)
    assert memory["reference"] == memory["weights"] > 0
    assert "reference" not in memory_by_part(stored, 8)


def test_samples_are_as_large_as_the_chosen_pictures(pairs, config):
    grids = PairCorpus([pairs], "", config.data).image_grids()
    assert grids.shape == (24, 2)
    assert {tuple(grid) for grid in grids.tolist()} == {(3, 4)}


def test_pairs_are_read_over_several_folders(pairs, tmp_path):
    write_pairs(tmp_path / "c.parquet", make_pairs(3, seed=5), Footer(FINGERPRINT, VOCAB, FINGERPRINT))
    index = PairIndex(pairs / "pairs/toy", tmp_path)
    assert len(index) == 27
    assert index.read(26).chosen.tolist() == make_pairs(3, seed=5)[2]["chosen"].tolist()
