"""The engine: the same tasks in this process (`inline`) or on Ray Data, receipts as they come, progress.

A task is a JSON-able dict with a `unit`; a worker is a class made once in each process and called with a task; it
writes its unit's files itself, under fixed names, and returns a receipt (a dict of counts). So Ray's retry of a task
is harmless, and both executors give the same rows.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from reelmill.compat import THREADS, one_thread, restored_threads
from reelmill.errors import ConfigError, MachineError, ReelmillError, brief
from reelmill.os_errors import os_failure

log = logging.getLogger(__name__)

CONNECT_S = 10.0
"""How long RAY_ADDRESS has to answer."""

Task = dict[str, Any]
Receipt = dict[str, Any]


@dataclass
class EngineConfig:
    """Where and how wide the stages run."""

    executor: Literal["ray", "inline"] = "ray"
    """Ray, or this process alone."""
    workers: int = 0
    """Worker processes; 0 means one for each CPU that Ray has (or the cluster has, with RAY_ADDRESS)."""
    gpus_per_worker: float | None = None
    """Share of a GPU that each worker asks Ray for; 0: the workers see none. Without a value the workers share those
    that Ray has evenly."""

    def expected_workers(self) -> int:
        """How many there will be on this machine; a cluster's CPUs are not asked for."""
        return (self.workers or os.cpu_count() or 1) if self.executor == "ray" else 1


class Worker(Protocol):
    """Made once per process with `settings`, then called with tasks."""

    def __init__(self, settings: dict[str, Any]) -> None: ...

    def __call__(self, task: Task) -> Receipt:
        """Do the task, commit its files, return counts."""

    def close(self) -> None:
        """Release what the worker holds."""


def run_tasks(worker: str, settings: dict[str, Any], tasks: Sequence[Task], config: EngineConfig) -> Iterator[Receipt]:
    """Run `tasks` on workers `module:Class`; yields receipts as tasks end, in no particular order.

    Raises the worker's own ReelmillError (disk full, a newer run, a wrong recipe) from either executor.
    """
    if not tasks:
        return iter(())
    run = _run_ray if config.executor == "ray" else _run_inline
    return run(worker, settings, tasks, config)


def _run_inline(worker: str, settings: dict[str, Any], tasks: Sequence[Task], _: EngineConfig) -> Iterator[Receipt]:
    one_thread()
    made = _find(worker)(settings)
    try:
        for task in tasks:
            yield made(task)
    finally:
        made.close()


def _run_ray(worker: str, settings: dict[str, Any], tasks: Sequence[Task], config: EngineConfig) -> Iterator[Receipt]:
    import ray
    import ray.data

    cpus = start_ray()
    gpus = ray.cluster_resources().get("GPU", 0)
    size = min(config.workers or cpus, cpus, len(tasks))
    share = gpu_share(size, gpus) if config.gpus_per_worker is None else config.gpus_per_worker
    if gpus < share:  # Ray would wait for ever
        raise MachineError(f"a worker asks for {share:g} GPUs; Ray has {gpus:g}")
    rows = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
    receipts = rows.map_batches(
        RayWorker,
        fn_constructor_args=(worker, json.dumps(settings), share > 0),
        batch_size=1,
        batch_format="numpy",
        num_cpus=1,
        num_gpus=share or None,
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
    )
    try:
        for row in receipts.iter_rows():
            receipt = json.loads(row["receipt"])
            if "error" in receipt:
                raise _error(receipt)
            yield receipt
    except KeyboardInterrupt:
        with _quiet_stderr():  # Ray reports the workers that it kills
            stop_ray()
        raise


def gpu_share(workers: int, gpus: float) -> float:
    """The share of a GPU that each of so many workers gets, so that all run at once: none of it lies over two GPUs."""
    return 1 / math.ceil(workers / gpus) if gpus else 0.0


class RayWorker:
    """What Ray's actors run. A failure that stops the run travels as a receipt: its message must reach the user."""

    def __init__(self, worker: str, settings: str, has_gpu: bool) -> None:
        if not has_gpu:  # Ray does not hide them, and every worker would take the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        one_thread()
        self._worker = _find(worker)(json.loads(settings))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """One task in, one receipt out, both as JSON."""
        (task,) = batch["task"]
        try:
            receipt = self._worker(json.loads(str(task)))
        except (ReelmillError, OSError) as caught:
            error = os_failure(caught) if isinstance(caught, OSError) else caught
            receipt = {"error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code}
        return {"receipt": [json.dumps(receipt)]}


_ours = contextlib.ExitStack()
"""Ends the Ray that this process has started or joined for itself."""


def start_ray() -> int:
    """Connect to RAY_ADDRESS, or start a private local Ray; returns its CPUs. A Ray that the caller has is used."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts items, not rows
    if not ray.is_initialized():
        _ours.callback(ray.shutdown)
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _connect(address)
        else:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")
            # A local Ray inherits these variables. A runtime_env would cost each worker a new process.
            with _quiet_stderr(), restored_threads():  # its core announces its own log level
                os.environ.update(dict.fromkeys(THREADS, "1"))
                ray.init(
                    log_to_driver=False,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    configure_logging=False,
                )
    return max(int(ray.cluster_resources().get("CPU", 1)), 1)


def _connect(address: str) -> None:
    """Join the cluster at RAY_ADDRESS. MachineError where none answers: Ray itself goes on trying for minutes."""
    import ray

    advice = "start one there (`ray start --head`), name another, or unset RAY_ADDRESS for a private Ray"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        environment = {"env_vars": dict.fromkeys(THREADS, "1")}
        ray.init(address=address, runtime_env=environment, log_to_driver=False)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise MachineError(f"RAY_ADDRESS is {address} and no Ray cluster answers ({brief(error)}); {advice}") from error


def stop_ray() -> None:
    """Leave the Ray that `start_ray` has started or joined. A notebook's own goes on."""
    _ours.close()


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence what native code writes to standard error; Python's exceptions pass."""
    saved = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _find(worker: str) -> type[Worker]:
    module, _, name = worker.partition(":")
    found: type[Worker] = getattr(importlib.import_module(module), name)
    return found


def _error(receipt: Receipt) -> ReelmillError:
    error = (ConfigError if receipt["kind"] == "ConfigError" else MachineError)(receipt["error"])
    error.exit_code = receipt["exit_code"]
    return error
