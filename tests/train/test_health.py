"""What a step waited for is in the log, and a rank that is always late is named."""

import json
import multiprocessing
import time
from dataclasses import replace

import torch

from reelmill.train import health
from reelmill.train.parallel import join_ranks
from reelmill.train.run import train

STEPS = 22
LATE_S = 0.1


def a_rank(rank, config, data, out, told):
    """One of two gloo ranks, of which the second begins each step later."""
    import torch.distributed as dist

    from reelmill.train.trainer import Trainer

    store = dist.FileStore(str(out.parent / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    step, lines = Trainer.step, []

    def late(self, number, **options):
        time.sleep(LATE_S)
        return step(self, number, **options)

    if rank == 1:
        Trainer.step = late
    train(config, [data], out, log_fn=lines.append)
    told.put((rank, lines))


def test_a_rank_that_is_late_is_named(run_folder, toy_config, tmp_path):
    config = replace(toy_config, steps=STEPS, validate_every=STEPS)
    config = replace(config, checkpoint=replace(config.checkpoint, every=STEPS))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reelmill.train.run", "reelmill.train.trainer"])
    told = context.Queue()
    ranks = [context.Process(target=a_rank, args=(rank, config, run_folder, tmp_path / "run", told)) for rank in (0, 1)]
    try:
        for rank in ranks:
            rank.start()
        said = dict(told.get(timeout=60) for _ in ranks)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["slowest_rank"] for line in steps] == [1] * STEPS
    assert all(line["lag_s"] > 0.9 * LATE_S for line in steps)
    assert all(0 <= line["data_wait"] < 1 and line["memory_gib"] > 0 for line in steps)
    assert any(line.startswith("rank 1 has been the last for 20 steps") for line in said[0])


def test_one_rank_is_never_late(run_folder, toy_config, tmp_path):
    said = []
    train(toy_config, [run_folder], tmp_path, log_fn=said.append)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {(line["slowest_rank"], line["lag_s"]) for line in lines if "loss" in line} == {(0, 0.0)}
    assert not any("has been the last" in line for line in said)


def test_the_line_has_the_clock_and_the_temperature_where_nvml_is(monkeypatch):
    found = {"clock_rate": 1755, "temperature": 61, "max_memory_allocated": 3 * 2**30}
    for name, value in found.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value if device.index == 3 else None)
    for has_nvml in (True, False):
        monkeypatch.setattr(health, "find_spec", lambda name, has=has_nvml: object() if has else None)
        with join_ranks("cpu") as ranks:
            watch = health.Health(replace(ranks, device=torch.device("cuda", 3)))
            with watch.waiting_for_data():
                pass
            line = watch.line()
        assert line["memory_gib"] == 3
        assert (line.get("gpu_mhz"), line.get("gpu_celsius")) == ((1755, 61) if has_nvml else (None, None))
