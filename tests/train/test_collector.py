"""Garbage is collected between steps, at the same ones on all ranks."""

import gc
from dataclasses import replace

import pytest

from reelmill.train import collector
from reelmill.train.run import train
from reelmill.train.trainer import Trainer


@pytest.fixture
def collections(monkeypatch):
    """(steps begun, whether one is being made) at each collection, while it is watched."""
    seen, state = [], {"begun": 0, "within": False}
    step = Trainer.step

    def watched(self, number, **options):
        state.update(begun=number + 1, within=True)
        made = step(self, number, **options)
        [[] for _ in range(10_000)]  # more objects than the collector lets pass by default
        state["within"] = False
        return made

    def note(phase, _):
        if phase == "start" and state["begun"]:
            seen.append((state["begun"], state["within"]))

    monkeypatch.setattr(Trainer, "step", watched)
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_it_runs_between_steps_only(run_folder, toy_config, tmp_path, monkeypatch, collections):
    monkeypatch.setattr(collector, "EVERY", 2)
    config = replace(toy_config, steps=5, validate_every=5, checkpoint=replace(toy_config.checkpoint, every=5))
    frozen = gc.get_freeze_count()
    train(config, [run_folder], tmp_path, log_fn=lambda _: None)
    assert not any(within for _, within in collections)
    assert {2, 4} <= {begun for begun, _ in collections} <= {2, 4, 5}  # after the last it is automatic again
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen


def test_it_is_automatic_again_after_an_error(run_folder, toy_config, tmp_path, monkeypatch):
    def broken(self, number, **options):
        assert not gc.isenabled()
        raise RuntimeError("broken")

    monkeypatch.setattr(Trainer, "step", broken)
    with pytest.raises(RuntimeError, match="broken"):
        train(toy_config, [run_folder], tmp_path, log_fn=lambda _: None)
    assert gc.isenabled()
