"""Checkpoints in the background: copied before training goes on, whole or not at all, kept by policy."""

import json
import pathlib
import resource
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from reelmill.errors import ConfigError, MachineError
from reelmill.train import checkpoint, saver
from reelmill.train.data.corpus import Corpus
from reelmill.train.manifest import MANIFEST
from reelmill.train.parallel import join_ranks
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig
from reelmill.train.trainer import Trainer

silent = {"log_fn": lambda _: None}


def steps_in(out):
    return list(checkpoint.complete(out / "checkpoints"))


def test_training_goes_on_while_a_checkpoint_is_written(run_folder, toy_config, tmp_path, monkeypatch):
    """The rename is held up: two steps are made meanwhile, and what is then committed is what was saved."""
    may_rename = threading.Event()
    rename = pathlib.Path.rename

    def held_up(self, target):
        if str(target).endswith("step-000001"):
            assert may_rename.wait(300)
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", held_up)
    corpus = Corpus([run_folder], None, toy_config.data)
    config = replace(toy_config, model=replace(toy_config.model, vocab_size=corpus.vocab.size))
    with join_ranks("cpu") as ranks:
        trainer = Trainer(config, corpus, tmp_path, ranks, lambda _: None)
        trainer.step(0)
        trainer.next_step = 1
        then = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        trainer.save()
        trainer.step(1)
        trainer.step(2)
        assert steps_in(tmp_path) == []
        may_rename.set()
        trainer.saver.wait()
        trainer.saver.close()
        now = trainer.model.state_dict()
    saved = checkpoint.load_decoder(tmp_path / "checkpoints/step-000001")[0].state_dict()
    assert all(torch.equal(saved[name], then[name]) for name in saved)
    assert not any(torch.equal(now[name], then[name]) for name in saved)


def test_on_a_gpu_the_copy_is_pinned_and_the_thread_stands_on_its_rank_s(tmp_path, monkeypatch):
    options, devices = [], []
    monkeypatch.setattr(saver, "DefaultStager", lambda asked: options.append(asked) or SimpleNamespace(close=int))
    monkeypatch.setattr(
        torch.cuda, "set_device", lambda device: devices.append((threading.current_thread().name, device))
    )
    gpu = torch.device("cuda", 3)
    with join_ranks("cpu") as ranks:
        made = saver.Saver(tmp_path, CheckpointConfig(), replace(ranks, device=gpu))
        made._thread.submit(int).result(timeout=60)
        made.close()
    assert devices == [("checkpoint_0", gpu)]
    assert [(asked.use_pinned_memory, asked.use_non_blocking_copy) for asked in options] == [(True, True)]


def test_the_newest_are_kept_and_some_for_ever(run_folder, toy_config, tmp_path):
    config = replace(toy_config, steps=8, validate_every=8, checkpoint=CheckpointConfig(every=1, keep=2, keep_every=3))
    train(config, [run_folder], tmp_path, **silent)
    assert steps_in(tmp_path) == [3, 6, 7, 8]
    assert not list((tmp_path / "checkpoints").glob("*.tmp"))


@pytest.mark.parametrize("policy", [{"every": 0}, {"keep": -1}, {"keep_every": -5}])
def test_a_policy_without_meaning_is_refused(run_folder, toy_config, tmp_path, policy):
    with pytest.raises(ConfigError, match=f"{next(iter(policy))}.* {next(iter(policy.values()))}"):
        train(replace(toy_config, checkpoint=CheckpointConfig(**policy)), [run_folder], tmp_path, **silent)


def test_a_disk_that_takes_no_more_stops_the_run_and_harms_no_checkpoint(run_folder, toy_config, tmp_path):
    config = replace(toy_config, checkpoint=CheckpointConfig(every=1))
    train(config, [run_folder], tmp_path, until=1, **silent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(MachineError, match=r"rank 0: .*File too large.*The checkpoints before it are sound"):
            train(config, [run_folder], tmp_path, **silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps_in(tmp_path) == [1]
    train(config, [run_folder], tmp_path, **silent)
    assert steps_in(tmp_path) == [1, 2, 3, 4]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_machine(run_folder, toy_config, tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(MachineError, match=r"could not be written to .*checkpoints \(.*in the way|Not a directory"):
        train(toy_config, [run_folder], tmp_path, **silent)


def test_a_checkpoint_of_an_earlier_version_goes_on(run_folder, toy_config, tmp_path):
    """Keys that it lacks count as their defaults."""
    config = replace(toy_config, model=replace(toy_config.model, dropout=0.0, attention_dropout=0.0))
    train(config, [run_folder], tmp_path, until=2, **silent)
    place = tmp_path / "checkpoints/step-000002/state.json"
    state = json.loads(place.read_text())
    for key in ("z_loss", "checkpoint", "log"):
        del state["recipe"][key]
    del state["tokens"], state["recipe"]["data"]["lessons"]
    state["recipe"]["checkpoint_every"] = 650
    place.write_text(json.dumps(state))
    (place.parent / MANIFEST).unlink()  # it had none
    with pytest.raises(ConfigError, match=r"changed since: z_loss: 0\.0 -> 0\.1\. Go on"):
        train(replace(config, z_loss=0.1), [run_folder], tmp_path, **silent)
    train(config, [run_folder], tmp_path, **silent)
    assert steps_in(tmp_path) == [2, 4]


def test_the_log_of_steps_that_are_done_again_is_cut(run_folder, toy_config, tmp_path):
    train(toy_config, [run_folder], tmp_path, until=2, **silent)
    metrics = tmp_path / "metrics.jsonl"
    before = metrics.read_text()
    metrics.write_text(before + '{"step": 3, "loss": 9.0}\n{"step": 3, "validation": {"text": 1.0}}\n{"step": 4, "lo')
    train(toy_config, [run_folder], tmp_path, **silent)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert metrics.read_text().startswith(before)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4]
    assert lines[-2]["tokens"] > lines[0]["tokens"] > 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_a_resumed_run_goes_on_as_it_would_have(run_folder, toy_config, tmp_path, precision):
    config = replace(toy_config, device="cuda", precision=precision)
    train(config, [run_folder], tmp_path / "whole", **silent)
    train(config, [run_folder], tmp_path / "halves", until=2, **silent)
    train(config, [run_folder], tmp_path / "halves", **silent)
    one, other = (losses_and_memory(tmp_path / name) for name in ("whole", "halves"))
    assert [loss for loss, _ in one] == pytest.approx([loss for loss, _ in other], rel=1e-4)
    assert all(0 < memory < 8 for _, memory in one)


def losses_and_memory(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["loss"], line["memory_gib"]) for line in lines if "loss" in line]
