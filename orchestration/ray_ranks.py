"""One function in several processes that form a torch process group, by Ray Train: on this machine or on a cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelmill.errors import MachineError, ReelmillError
from reelmill.orchestration.engine import start_ray


def run_ranks(function: str, settings: dict[str, Any], size: int, storage: Path, *, gpus: bool) -> None:
    """Call `module:function` with `settings` on `size` Ray Train workers and return when all are done.

    Each has one CPU, or with `gpus` one GPU where Ray has any; the function finds the group made. `storage` is where
    Ray Train notes its run, a folder that all nodes see. Raises the worker's own ReelmillError; MachineError for a lost
    worker, or when Ray has fewer CPUs or GPUs than workers.
    """
    # Importing torch on all nodes from one busy disk takes longer than the minute that Ray Train grants.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    start_ray()
    resources = ray.cluster_resources()
    gpus = gpus and resources.get("GPU", 0) > 0
    kind = "GPU" if gpus else "CPU"
    found = int(resources.get(kind, 0))
    if found < size:  # Ray would wait for ever
        raise MachineError(f"{size} workers need {size} {kind}s; Ray has {found}. Ask for fewer with --ray.")
    trainer = TorchTrainer(
        call,
        train_loop_config={"function": function, "settings": settings},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=size, use_gpu=gpus),
        run_config=ray.train.RunConfig(storage_path=str(storage.resolve())),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from error


def call(arguments: dict[str, Any]) -> None:
    """What each worker runs."""
    module, _, name = arguments["function"].partition(":")
    function: Callable[[dict[str, Any]], None] = getattr(importlib.import_module(module), name)
    function(arguments["settings"])


def _cause(error: Exception) -> ReelmillError:
    """The first rank's own error, where it is one of ours."""
    failures = getattr(error, "worker_failures", {})
    for rank in sorted(failures):
        cause: BaseException | None = failures[rank]
        while cause is not None:
            if isinstance(cause, ReelmillError):
                return cause
            cause = cause.__cause__
    return MachineError(f"training on Ray failed: {error}")
