"""What `reelmill train` runs: in this process (or each that torchrun started), or on Ray Train's workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reelmill.config import from_dict
from reelmill.files import write_text
from reelmill.terminal import json_line, tell, tell_beside

_FUNCTION = "reelmill.pipelines.train.run:train_rank"


def train_here(settings: dict[str, Any], log_fn: Callable[[str], None] = tell) -> None:
    """Train by `settings`: `recipe` (a dict of TrainConfig), `data`, `conditions`, `out`, `selection`,
    `tokenizer`, `json`.

    With `json`, `log_fn` gets the metrics as lines of JSON, and what else there is to say goes to standard error.
    """
    from reelmill.pipelines.train.mixture import chosen
    from reelmill.pipelines.train.sample_images import sample_images
    from reelmill.train.config import TrainConfig
    from reelmill.train.run import train

    config = from_dict(TrainConfig, settings["recipe"])
    make_sample_fn = sample_images(settings["tokenizer"])
    folders = [Path(place) for place in settings["data"]]
    train(
        config, folders, Path(settings["out"]), chosen(folders, settings["conditions"], settings["selection"]),
        make_sample_fn=make_sample_fn,
        log_fn=tell_beside if settings["json"] else log_fn,
        metrics_fn=(lambda metrics: log_fn(json_line(metrics))) if settings["json"] else None,
    )  # fmt: skip


def train_on_ray(settings: dict[str, Any], workers: int, log_fn: Callable[[str], None] = tell) -> None:
    """The same on so many Ray workers, each with a GPU where Ray has GPUs and the recipe's device is not cpu.

    A signal to this process goes to the workers as a file in the run's folder.
    """
    from reelmill.orchestration.engine import start_ray, stop_ray
    from reelmill.orchestration.ray_ranks import run_ranks
    from reelmill.train.signals import STOP_FILE, stop_requests

    out = Path(settings["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    data = [str(Path(place).resolve()) for place in settings["data"]]
    start_ray()  # it takes signals for itself: ours come after
    with _shown(out / "ray.log", log_fn) as lines, stop_requests() as request, ThreadPoolExecutor(1) as thread:
        absolute = {**settings, "data": data, "out": str(out), "lines": str(lines)}
        gpus = settings["recipe"]["device"] != "cpu"
        # Not in the main thread: there Ray Train has a handler for Ctrl-C of its own, which saves nothing.
        workers_end = thread.submit(run_ranks, _FUNCTION, absolute, workers, out / "ray", gpus=gpus)
        asked = False
        try:
            while wait([workers_end], timeout=0.5).not_done:
                if request.signal and not asked:
                    write_text(out / STOP_FILE, request.signal.name)
                    asked = True
        except KeyboardInterrupt:  # the second Ctrl-C: the workers end as they are
            stop_ray()
            raise
        finally:
            (out / STOP_FILE).unlink(missing_ok=True)
        workers_end.result()


def train_rank(settings: dict[str, Any]) -> None:
    """What a Ray worker runs: the first rank's lines go to the file that the driver shows."""
    with Path(settings.pop("lines")).open("a", encoding="utf-8", buffering=1) as lines:
        train_here(settings, lambda line: print(line, file=lines))


@contextmanager
def _shown(path: Path, log_fn: Callable[[str], None]) -> Iterator[Path]:
    """A file, on a disk that all nodes see, whose lines go to `log_fn` as they come. Ray's own output comes late."""
    path.write_text("", encoding="utf-8")
    ended = threading.Event()

    def follow() -> None:
        with path.open(encoding="utf-8") as lines:
            while not ended.wait(0.5):
                for line in lines:
                    log_fn(line.rstrip("\n"))
            for line in lines:
                log_fn(line.rstrip("\n"))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        ended.set()
        thread.join()
