"""What a run logs: the readable line, MFU, TensorBoard."""

import json
from dataclasses import replace

import pytest
import torch

from reelmill.errors import ConfigError, DataError
from reelmill.train import meter, trackers
from reelmill.train.estimate import flops_per_token
from reelmill.train.metrics import format_step
from reelmill.train.model import ModelConfig
from reelmill.train.objectives.next_token import NextToken
from reelmill.train.run import train
from reelmill.train.trackers import JsonLines, LogConfig

LINE = {
    "step": 12, "loss": 3.25, "text": 3.0, "structure": 0.5, "vision": 4.125, "lr": 5e-5, "grad_norm": 0.75,
    "tokens_per_s": 81234.5, "memory_gib": 61.25, "eta_s": 93784.0, "epoch": 0.25, "tokens": 123_456_789,
}  # fmt: skip

SHOWN = NextToken.shown


def test_the_line_for_a_person():
    assert format_step(LINE, SHOWN, 100_000) == (
        "step 12/100000  loss 3.2500 (text 3.000 structure 0.500 vision 4.125)  lr 5.00e-05  grad 0.75  "
        "81,234 tokens/s  61.2 GiB  epoch 0.25, 123.5 M tokens  1 d 2 h left"
    )
    assert "tokens/s  MFU 41.2%  61.2 GiB" in format_step({**LINE, "mfu": 0.412}, SHOWN, 100_000)
    assert format_step({**LINE, "eta_s": 3725.0, "tokens": 900}, SHOWN, 12).endswith("900 tokens  1 h 02 min left")
    assert "61.2 GiB  waited 25% for data  epoch" in format_step({**LINE, "data_wait": 0.25}, SHOWN, 12)
    assert "waited" not in format_step({**LINE, "data_wait": 0.05}, SHOWN, 12)
    assert format_step({**LINE, "eta_s": 80.4}, SHOWN, 12).endswith("1 min 20 s left")


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA A10G", None),
        ("Another device", None),
    ],
)
def test_the_peak_is_that_of_the_device_or_unknown(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert meter.peak_flops(torch.device("cuda", 0)) == peak
    assert meter.peak_flops(torch.device("cpu")) is None


def test_mfu_counts_the_documents_as_they_are(monkeypatch):
    """Two devices make 1,000 predictions in documents of 100 tokens in a second."""
    monkeypatch.setattr(meter, "peak_flops", lambda device: 1e12)
    now = iter([10.0, 11.0, 12.0, 14.0])
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(now, 10.0))
    config = ModelConfig(vocab_size=1000)
    made = meter.Meter(config, "bfloat16", torch.device("cuda"), 2, steps=10)
    made.begin()
    line = made.end(0, tokens=1000, squares=10 * 100**2)
    assert line == pytest.approx({"tokens_per_s": 1000, "eta_s": 9, "mfu": 1000 * flops_per_token(config, 100) / 2e12})
    assert meter.Meter(config, "float32", torch.device("cuda"), 2, steps=10).peak is None


def test_tensorboard_shows_the_numbers_of_the_log(run_folder, toy_config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(toy_config, log=LogConfig(tensorboard=True))
    train(config, [run_folder], tmp_path, until=2, log_fn=lambda _: None)
    train(config, [run_folder], tmp_path, log_fn=lambda _: None)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "text", "structure", "lr", "grad_norm", "tokens_per_s"):
        shown = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert shown == pytest.approx({line["step"]: line[name] for line in lines if name in line}), name
    shown = {event.step: event.value for event in events.Scalars("validation/vision")}
    assert shown == pytest.approx(
        {line["step"]: line["validation"]["vision"] for line in lines if "validation" in line}
    )


@pytest.mark.parametrize("setting", [{"tensorboard": True}, {"wandb": "mine"}])
def test_a_tracker_that_is_not_installed_is_named_before_training(
    run_folder, toy_config, tmp_path, monkeypatch, setting
):
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    (package,) = setting
    with pytest.raises(ConfigError, match=rf'pip install "reelmill\[{package}\]"'):
        train(replace(toy_config, log=LogConfig(**setting)), [run_folder], tmp_path, log_fn=lambda _: None)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "damage", [b"\x00\x00\n", b"{\n", b"[1]\n", b"3\n", b'{"loss": 1}\n', b'{"step": "x"}\n', b"\xff\n"]
)
def test_a_broken_log_says_where_and_what_to_do(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n' + damage + b'{"step": 2, "loss": 1.0}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl, line 2 is damaged: .*; take it out, or move the file away"):
        JsonLines(path, 2)
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n' + damage.rstrip(b"\n"))  # cut off by a kill
    JsonLines(path, 2)
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n'


def test_a_log_of_an_earlier_version_is_counted_from_one_when_its_run_goes_on(run_folder, toy_config, tmp_path):
    train(toy_config, [run_folder], tmp_path, until=2, log_fn=lambda _: None)
    path = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    older = [{**line, "step": line["step"] - ("loss" in line)} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in older))
    train(toy_config, [run_folder], tmp_path, log_fn=lambda _: None)
    now = [json.loads(line) for line in path.read_text().splitlines()]
    assert now[: len(lines)] == lines
    assert [line["step"] for line in now if "loss" in line] == [1, 2, 3, 4]


def test_a_log_of_a_line_every_ten_steps_is_counted_likewise(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for steps in ([9, 19], [10, 20]):
        path.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in steps))
        JsonLines(path, 20, 10)
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]


def test_a_run_that_is_whole_goes_on_with_more_steps(run_folder, toy_config, tmp_path):
    said = []
    train(toy_config, [run_folder], tmp_path, log_fn=lambda _: None)
    more = replace(toy_config, steps=6)
    train(more, [run_folder], tmp_path, log_fn=said.append)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    rate = toy_config.optimizer.rate
    assert [line["lr"] for line in steps] == [*(rate(step, 4) for step in range(4)), rate(4, 6), rate(5, 6)]
    assert any("whole at 4 steps; it goes on" in line for line in said)
    assert (tmp_path / "recipe.toml").read_text().count("steps = 6") == 1
    with pytest.raises(ConfigError, match=r"steps: 6 -> 5"):
        train(replace(toy_config, steps=5), [run_folder], tmp_path, log_fn=lambda _: None)


def test_a_run_that_is_not_whole_keeps_its_steps(run_folder, toy_config, tmp_path):
    train(toy_config, [run_folder], tmp_path, until=2, log_fn=lambda _: None)
    with pytest.raises(ConfigError, match=r"steps: 4 -> 6"):
        train(replace(toy_config, steps=6), [run_folder], tmp_path, log_fn=lambda _: None)
