"""A signal saves the run and ends it; the same command goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from reelmill.config import to_toml
from reelmill.errors import Preempted
from reelmill.train import checkpoint, signals
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def losses_of(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def wait_for_a_step(process, out):
    while not ((out / "metrics.jsonl").is_file() and (out / "metrics.jsonl").stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code", "where"),
    [
        (signal.SIGTERM, 75, []),
        pytest.param(signal.SIGINT, 130, [], marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 75, ["--ray", "1"], marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, ["--ray", "1"], marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(run_folder, toy_config, tmp_path, number, code, where):
    config = replace(toy_config, steps=2000, validate_every=2000, checkpoint=CheckpointConfig(every=2000))
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "reelmill", "train", tmp_path / "recipe.toml", "--data", run_folder]
    command += ["--selection", "all", "--out", out, *where]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_a_step(process, out)
    process.send_signal(number)
    _, messages = process.communicate(timeout=120)
    made = checkpoint.read_state(checkpoint.latest(out / "checkpoints")).step
    assert process.returncode == code, messages
    assert f"stopped by {number.name}, saved after {made} steps" in " ".join(messages.split())
    assert sorted(losses_of(out)) == list(range(1, made + 1))

    train(config, [run_folder], out, until=made + 2, log_fn=lambda _: None)
    train(config, [run_folder], tmp_path / "whole", until=made + 2, log_fn=lambda _: None)
    assert losses_of(out) == losses_of(tmp_path / "whole")


def test_a_file_in_the_runs_folder_stops_it_once(run_folder, toy_config, tmp_path):
    (tmp_path / signals.STOP_FILE).touch()
    with pytest.raises(Preempted, match="stopped by SIGTERM, saved after 0 steps"):
        train(toy_config, [run_folder], tmp_path, log_fn=lambda _: None)
    assert train(toy_config, [run_folder], tmp_path, until=1, log_fn=lambda _: None).name == "step-000001"


def test_a_second_interrupt_does_not_wait_but_one_key_counts_once(monkeypatch):
    now, before = [0.0], signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with signals.stop_requests() as request:
        signal.raise_signal(signal.SIGINT)
        now[0] = 0.1
        signal.raise_signal(signal.SIGINT)
        assert request.signal is signal.SIGINT
        now[0] = 5.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


IN_AN_OPERATOR = """
import hashlib
from reelmill.train import signals
signals._IMPATIENT_S = signals._GRACE_S = 0.2
with signals.stop_requests() as request:
    print("working", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes in C, in which no handler runs
"""


def test_a_second_interrupt_ends_the_process_inside_an_operator_too():
    process = subprocess.Popen([sys.executable, "-c", IN_AN_OPERATOR], stdout=subprocess.PIPE, env=ENVIRONMENT)
    try:
        assert process.stdout.readline() == b"working\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            # The first one waits for the step to end. Far longer than _IMPATIENT_S, which counts from when it is read:
            # on a busy machine that is late.
            process.wait(timeout=4)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.communicate()


SCRIPT = """
import os, signal, sys, threading, time, tomllib
from pathlib import Path
from reelmill.config import from_dict
from reelmill.errors import Preempted
from reelmill.train.run import train
from reelmill.train.config import TrainConfig

recipe, data, out = map(Path, sys.argv[1:])

def terminate():
    while not (out / "metrics.jsonl").is_file():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGUSR1)

if os.environ["RANK"] == "1":
    threading.Thread(target=terminate, daemon=True).start()
try:
    train(from_dict(TrainConfig, tomllib.loads(recipe.read_text())), [data], out)
except Preempted as stopped:
    (out / f"rank-{os.environ['RANK']}").write_text(f"{stopped.exit_code} {stopped}")
"""


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_at_the_same_step(run_folder, toy_config, tmp_path):
    config = replace(toy_config, steps=2000, validate_every=2000, checkpoint=CheckpointConfig(every=2000))
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, tmp_path / "script.py", tmp_path / "recipe.toml", run_folder, out]
    subprocess.run(command, check=True, timeout=120, env=ENVIRONMENT)
    made = checkpoint.read_state(checkpoint.latest(out / "checkpoints")).step
    words = f"75 stopped by SIGUSR1, saved after {made} steps; the same command goes on from there"
    assert [(out / f"rank-{rank}").read_text() for rank in (0, 1)] == [words, words]
    assert sorted(losses_of(out)) == list(range(1, made + 1))


POISONED = """
import os, sys, tomllib
from pathlib import Path
from reelmill.config import from_dict
from reelmill.errors import ReelmillError
from reelmill.train.data.corpus import Corpus
from reelmill.train.parallel import join_ranks
from reelmill.train.config import TrainConfig
from reelmill.train.trainer import Trainer

recipe, data, out = map(Path, sys.argv[1:])
config = from_dict(TrainConfig, tomllib.loads(recipe.read_text()))
corpus = Corpus([data], None, config.data)
with join_ranks("cpu") as ranks:
    for name, factor in {"embed_tokens.weight": float("nan"), "lm_head.weight": 1e26}.items():
        trainer = Trainer(config, corpus, out, ranks, print)
        weight = trainer.model.get_parameter(name).detach().to_local()
        if ranks.rank == 1:
            weight.mul_(factor)
        try:
            trainer.step(0)
        except ReelmillError as error:
            with (out / f"rank-{ranks.rank}").open("a") as messages:
                print(error, file=messages)
"""


@pytest.mark.slow
def test_all_ranks_stop_with_the_same_words_where_one_is_not_finite(run_folder, toy_config, tmp_path):
    """What the second rank holds of the weights is damaged: the codes' embeddings, then their rows of the head."""
    config = replace(toy_config, model=replace(toy_config.model, vocab_size=531, dropout=0.0, attention_dropout=0.0))
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    (tmp_path / "script.py").write_text(POISONED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command = [*torchrun, tmp_path / "script.py", tmp_path / "recipe.toml", run_folder, tmp_path]
    subprocess.run(command, check=True, timeout=300, env=ENVIRONMENT)
    first, second = ((tmp_path / f"rank-{rank}").read_text() for rank in (0, 1))
    assert first == second
    loss, gradient = first.splitlines()
    assert re.match(r"step 1: the loss is not finite in rank 0, micro-batch 0: document \w+ in /", loss)
    assert re.match(
        r"step 1: the loss is \d.*, but the gradient's norm is \w+ because of norm.weight; layers", gradient
    )
