"""Loss spikes: found by the stated rule, left out or rolled back from, and answered alike by a run that is resumed."""

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

from reelmill.errors import ConfigError, ReelmillError
from reelmill.train import checkpoint
from reelmill.train.data.corpus import Corpus
from reelmill.train.objectives.next_token import NextToken
from reelmill.train.parallel import join_ranks
from reelmill.train.run import train
from reelmill.train.spikes import Spike, SpikeConfig, SpikeGuard
from reelmill.train.trainer import Trainer

TIMINGS = {"tokens_per_s", "memory_gib", "eta_s", "data_wait", "lag_s"}
EAGER = SpikeConfig(action="skip", window=4, sigmas=1.0, most=99)
"""So strict that what is no more than chance is a spike."""


def lines_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]


def weights_of(path):
    model, _, _ = checkpoint.load_decoder(path)
    return dict(model.state_dict())


def test_the_rule_is_so_many_deviations_above_the_mean_of_the_last_steps():
    guard = SpikeGuard(SpikeConfig(action="skip", window=8, sigmas=3.0))
    rng = np.random.default_rng(0)
    losses, norms = rng.normal(3.0, 0.1, 20).tolist(), rng.normal(1.0, 0.2, 20).tolist()
    for number, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        if number < 4:
            assert guard.reason(99.0, 99.0) is None, "half a window is needed"
        guard.made(loss, norm)
    bounds = [statistics.fmean(some[-8:]) + 3 * statistics.stdev(some[-8:]) for some in (losses, norms)]
    assert guard.reason(*(bound - 1e-9 for bound in bounds)) is None
    assert "its loss is" in guard.reason(bounds[0] + 1e-9, 0.0)
    assert "its gradient's norm is" in guard.reason(0.0, bounds[1] + 1e-9)


def test_batches_that_are_left_out_are_no_step_s():
    guard = SpikeGuard(SpikeConfig(action="rollback", window=8, most=3))
    assert guard.batch(7) == 7
    guard.leave_out(Spike(7, 7, "high"), 4)  # back to step 4
    assert [guard.batch(step) for step in range(6)] == [0, 1, 2, 3, 8, 9]
    guard.leave_out(Spike(5, 9, "high"), 9)
    assert [guard.batch(step) for step in range(3, 7)] == [3, 8, 10, 11]
    guard.leave_out(Spike(6, 11, "high"), 2)  # back behind both
    assert [guard.batch(step) for step in range(4)] == [0, 1, 12, 13]
    assert guard.batches_left_out == 10
    again = SpikeGuard(guard.config)
    again.load(json.loads(json.dumps(guard.state())))
    assert again.batch(2) == 12


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_resumed_run_answers_as_an_undisturbed_one_bit_for_bit(run_folder, toy_config, tmp_path, action):
    config = replace(toy_config, steps=11, validate_every=11, spikes=replace(EAGER, action=action))
    config = replace(config, checkpoint=replace(config.checkpoint, every=3))
    messages = []
    whole = train(config, [run_folder], tmp_path / "whole", log_fn=messages.append)
    # Stopped where there is a checkpoint in any case: a rollback goes to the last one.
    train(config, [run_folder], tmp_path / "parts", until=6, log_fn=lambda _: None)
    parts = train(config, [run_folder], tmp_path / "parts", log_fn=lambda _: None)

    said = [line for line in messages if "is a spike" in line]
    assert any(int(line.split()[1]) > 6 for line in said), "one after the stop"
    assert any(("goes back to" if action == "rollback" else "with the next") in line for line in said)
    lines = lines_of(tmp_path / "whole")
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 12))
    assert lines[-2]["batches_left_out"] >= len(said)
    one, other = weights_of(whole), weights_of(parts)
    assert lines == lines_of(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_whose_loss_is_not_finite_is_left_out_and_what_is_learned_is_that_of_the_others(
    run_folder, toy_config, tmp_path, monkeypatch
):
    """The embedding of an id that one document alone has is damaged."""
    config = replace(toy_config, steps=8, spikes=SpikeConfig(action="skip"))
    corpus = Corpus([run_folder], None, config.data)
    config = replace(config, model=replace(config.model, vocab_size=corpus.vocab.size))
    made, messages = [], []
    usual = NextToken.micro_batches
    monkeypatch.setattr(NextToken, "micro_batches", lambda self, number: made.append(number) or usual(self, number))
    with join_ranks("cpu") as ranks:
        trainer = Trainer(config, corpus, tmp_path, ranks, messages.append)
        documents = corpus.read(trainer.objective.training)
        ids, owners = np.unique(np.concatenate([np.unique(tokens) for tokens in documents]), return_counts=True)
        trainer.model.embed_tokens.weight.detach()[int(ids[owners == 1][-1])] = math.inf
        trainer.run()
    spikes = [line for line in messages if "is a spike: the loss is not finite in rank 0" in line]
    lines = [line for line in lines_of(tmp_path) if "loss" in line]
    assert len(spikes) >= 1
    assert len(lines) == 8 and all(math.isfinite(line["loss"]) for line in lines)
    assert lines[-1]["batches_left_out"] == len(spikes)
    assert sorted(set(made)) == list(range(8 + len(spikes)))


def test_too_many_spikes_end_the_run(run_folder, toy_config, tmp_path):
    config = replace(toy_config, steps=40, spikes=replace(EAGER, sigmas=1e-6, most=2))
    with pytest.raises(ReelmillError, match=r"so were 2 of the last 4 steps: leaving out batches does not help"):
        train(config, [run_folder], tmp_path, log_fn=lambda _: None)
    with pytest.raises(ConfigError, match=r"spikes\.window is 2"):
        train(replace(config, spikes=SpikeConfig(window=2)), [run_folder], tmp_path / "other")


def test_a_run_that_has_begun_may_turn_it_on(run_folder, toy_config, tmp_path):
    train(toy_config, [run_folder], tmp_path, until=2, log_fn=lambda _: None)
    train(replace(toy_config, spikes=EAGER), [run_folder], tmp_path, log_fn=lambda _: None)
    assert checkpoint.read_state(checkpoint.latest(tmp_path / "checkpoints")).spikes["recent"]
