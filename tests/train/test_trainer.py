import json
import math
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from reelmill.config import from_dict, to_toml
from reelmill.errors import ConfigError, ReelmillError
from reelmill.tokenize import documents
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data import Corpus, DataConfig
from reelmill.train.model import count_parameters
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.recipes import RECIPES, recipe
from reelmill.train.run import train
from reelmill.train.trainer import TrainConfig
from reelmill.train.validation import unigram_entropy


def lines_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_rate_warms_up_and_falls_along_a_cosine_to_zero():
    config = OptimizerConfig(lr=1.0, warmup_steps=10)
    assert [config.rate(step, 110) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert config.rate(60, 110) == pytest.approx(0.5)
    assert 0 < config.rate(109, 110) < 1e-3


def test_every_step_and_validation_is_a_line(run_folder, toy_config, tmp_path):
    said = []
    train(toy_config, [run_folder], tmp_path, say=said.append)
    steps = [line for line in lines_of(tmp_path) if "loss" in line]
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    for line in steps:
        assert line.keys() >= {"loss", "text", "structure", "lr", "grad_norm", "tokens_per_s", "epoch"}
    assert any("vision" in line for line in steps)
    assert steps[0]["text"] == pytest.approx(math.log(531), rel=0.05), "the first weights know nothing"
    validations = [line for line in lines_of(tmp_path) if "validation" in line]
    assert [line["step"] for line in validations] == [2, 4]
    assert validations[0]["validation"].keys() == {"text", "structure", "vision"}
    assert validations[0]["vision_shuffled"] > 0
    assert any("validation after step 4" in line and "shuffled" in line for line in said)
    assert any("documents held out" in line for line in said)


def test_the_loss_weighs_codes_half_and_is_normalised_by_the_weight(run_folder, toy_config, tmp_path):
    whole = replace(toy_config, data=replace(toy_config.data, batch_rows=1000), steps=1)
    train(whole, [run_folder], tmp_path, say=lambda _: None)
    (line,) = [line for line in lines_of(tmp_path) if "loss" in line]
    corpus = Corpus([run_folder], None, replace(toy_config.data))
    kinds = np.concatenate(
        [documents.loss_kinds(corpus.vocab, t)[1:] for t in corpus.read(np.flatnonzero(~corpus.heldout))]
    )
    text, structure, vision = np.bincount(kinds) * [1.0, 1.0, 0.5]
    expected = (line["text"] * text + line["structure"] * structure + line["vision"] * vision) / (
        text + structure + vision
    )
    assert line["loss"] == pytest.approx(expected, rel=0.01)  # parts of one long video repeat EOI and EOS


def test_the_unigram_entropy_is_that_of_the_counts(tmp_path, shard_writer):
    vocab = Vocabulary("bytes", 64)
    image = documents.image_document(vocab, np.array([[0, 0], [1, 2]]), "aabb")
    shard_writer(tmp_path, [image, documents.text_document(vocab, "ab" * 50)])
    corpus = Corpus([tmp_path], None, DataConfig(heldout=0.0))
    entropy = unigram_entropy(corpus, np.arange(2))
    assert entropy["text"] == pytest.approx(math.log(2))
    assert entropy["vision"] == pytest.approx(1.5 * math.log(2))


def test_without_held_out_items_it_trains_and_says_so(run_folder, toy_config, tmp_path):
    said = []
    config = replace(toy_config, data=replace(toy_config.data, heldout=0.0))
    train(config, [run_folder], tmp_path, say=said.append)
    assert any("no held-out items" in line for line in said)


def test_a_loss_that_is_not_finite_stops_before_the_update(run_folder, toy_config, tmp_path):
    config = replace(toy_config, optimizer=replace(toy_config.optimizer, lr=1e30, warmup_steps=0), steps=10)
    with pytest.raises(ReelmillError, match=r"step \d: the loss is .*nan; nothing was updated"):
        train(config, [run_folder], tmp_path, say=lambda _: None)
    assert all(math.isfinite(line["loss"]) for line in lines_of(tmp_path) if "loss" in line)


def test_a_recipe_for_another_vocabulary_is_refused(run_folder, toy_config, tmp_path):
    config = replace(toy_config, model=replace(toy_config.model, vocab_size=184_622))
    with pytest.raises(
        ConfigError, match=r"vocab_size is 184,622, but the data's vocabulary \(bytes, 64 codes\) has 531"
    ):
        train(config, [run_folder], tmp_path)


def test_a_run_of_no_steps_is_refused(run_folder, toy_config, tmp_path):
    with pytest.raises(ConfigError, match="steps is 0"):
        train(replace(toy_config, steps=0), [run_folder], tmp_path, say=lambda _: None)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_toml(name):
    config = recipe(name)
    assert from_dict(TrainConfig, tomllib.loads(to_toml(config))) == config


def test_the_recipe_of_emu3_has_its_size_and_numbers():
    config = recipe("emu3_8b")
    assert count_parameters(config.model) == 8_492_011_520
    assert (config.data.vision_weight, config.data.context, config.optimizer.lr) == (0.5, 5120, 5e-5)
    assert (config.model.dropout, config.model.attention_dropout, config.model.rope_theta) == (0.1, 0.1, 1e6)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        recipe("tinny")


def test_the_rate_may_end_above_zero_and_fall_in_a_line():
    config = OptimizerConfig(lr=1.0, final_lr=0.1, schedule="linear", warmup_steps=10)
    assert config.rate(60, 110) == pytest.approx(0.55)
    assert replace(config, schedule="cosine").rate(60, 110) == pytest.approx(0.55)
    assert config.rate(110, 110) == pytest.approx(0.1)


def test_kinds_of_documents_may_be_left_out(run_folder, toy_config, tmp_path):
    said = []
    without = replace(toy_config, data=replace(toy_config.data, kinds=("text", "image")))
    train(without, [run_folder], tmp_path / "without", say=said.append)
    corpus = Corpus([run_folder], None, without.data)
    kept = corpus.of_kinds(("text", "image")) & ~corpus.heldout
    assert 0 < kept.sum() < (~corpus.heldout).sum()
    assert any(f"{kept.sum()} documents in" in line for line in said)
    only_text = replace(without, data=replace(without.data, kinds=("text",)))
    train(only_text, [run_folder], tmp_path / "text", say=said.append)
    assert not any("vision" in line for line in lines_of(tmp_path / "text"))
