"""Checkpoints written in the background: training waits for a copy in host memory, not for the disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from reelmill.errors import ConfigError, MachineError
from reelmill.files import sync
from reelmill.train.checkpoint import Parts, RunState, complete
from reelmill.train.checkpoint_writer import CheckpointWriter
from reelmill.train.manifest import MANIFEST, write_manifest
from reelmill.train.parallel import Ranks


@dataclass(kw_only=True)
class CheckpointConfig:
    """When checkpoints are written and which are kept."""

    every: int = 1_000
    """Steps between checkpoints; the last step of a run is always saved."""
    keep: int = 5
    """How many of the newest to keep; 0 keeps all."""
    keep_every: int = 0
    """Checkpoints whose step is a multiple of this are kept forever; 0: none."""

    def check(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.every < 1 or self.keep < 0 or self.keep_every < 0:
            raise ConfigError(
                f"checkpoint.every is {self.every}, keep {self.keep} and keep_every {self.keep_every}; every must be 1 "
                "or more, the others 0 (keep all; none for ever) or more."
            )


class Saver:
    """Writes the checkpoints of a run to `folder`, all ranks together.

    `save` copies this rank's tensors to host memory and returns; a thread writes them. The copy is kept for the next
    one: on a GPU it is pinned, so that it is made at the bus's full rate. A rename makes a checkpoint
    visible once every rank has written its part. One is written at a time: the next `save` waits for the last. The
    thread's collectives use a gloo group of their own, so that they never mix with those of training.
    """

    def __init__(self, folder: Path, config: CheckpointConfig, ranks: Ranks) -> None:
        config.check()
        self._folder, self._config, self._ranks = folder, config, ranks
        self._group = dist.new_group(backend="gloo")
        on_gpu = ranks.device.type == "cuda"
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=on_gpu,
                use_non_blocking_copy=on_gpu,
                use_shared_memory=False,
                use_async_staging=False,
            )
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=self._begin_thread)
        self._pending: Future[None] | None = None

    def save(self, state: RunState, parts: Parts) -> Path:
        """Start the checkpoint of `state.step` and return its future path; raises what `wait` raises.

        `parts` are this rank's tensors; each part becomes a folder.
        """
        self.wait()
        # Training goes on changing the tensors in place, so a copy is written.
        copies: Any = self._stager.stage(parts)
        self._pending = self._thread.submit(self._write, state, copies)
        return self._final(state.step)

    def wait(self) -> None:
        """Wait until no checkpoint is being written; MachineError if the last one could not be written."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (CheckpointException, OSError) as error:
            raise MachineError(
                f"a checkpoint could not be written to {self._folder} ({_first_line(error)}); free or mend the disk. "
                "The checkpoints before it are sound, and the same command goes on from the last."
            ) from error

    def close(self) -> None:
        """Wait for the checkpoint that is being written; nothing can be saved afterwards."""
        self._thread.shutdown()
        self._stager.close()

    @property
    def failed(self) -> bool:
        """Whether the checkpoint that is being written has failed already; `wait` raises why."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def _begin_thread(self) -> None:
        # CUDA's current device is per thread: left at GPU 0, every rank's thread would open a context there.
        if self._ranks.device.type == "cuda":
            torch.cuda.set_device(self._ranks.device)

    def _final(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}"

    def _write(self, state: RunState, parts: Parts) -> None:
        final = self._final(state.step)
        temporary = final.with_name(f"{final.name}.tmp")
        self._on_first(lambda: self._begin(temporary))
        for name, tensors in parts.items():
            state_dict_saver.save(
                tensors,
                storage_writer=CheckpointWriter(temporary / name),
                process_group=self._group,
            )
        self._on_first(lambda: self._commit(state, list(parts), temporary, final))

    def _begin(self, temporary: Path) -> None:
        for left_over in self._folder.glob("step-*.tmp"):
            shutil.rmtree(left_over)
        temporary.mkdir(parents=True)

    def _commit(self, state: RunState, parts: Sequence[str], temporary: Path, final: Path) -> None:
        (temporary / "state.json").write_text(json.dumps(vars(state), indent=2), encoding="utf-8")
        write_manifest(temporary)
        for path in (*(temporary / name for name in ("state.json", MANIFEST, *parts)), temporary):
            sync(path)
        temporary.rename(final)
        sync(self._folder)
        self._prune()

    def _prune(self) -> None:
        """Delete what the policy does not keep. A folder is renamed first, so that none is ever seen half deleted."""
        steps = complete(self._folder)
        keep, for_ever = self._config.keep, self._config.keep_every
        for step, path in list(steps.items())[:-keep] if keep else ():
            if not (for_ever and step % for_ever == 0):
                shutil.rmtree(path.rename(path.with_name(f"{path.name}.tmp")))

    def _on_first(self, work: Callable[[], None]) -> None:
        """Do `work` on the first rank; if it fails, all ranks raise, so that none waits for another."""
        error: OSError | None = None
        if self._ranks.is_first:
            try:
                work()
            except OSError as caught:
                error = caught
        failed = torch.tensor(int(error is not None))
        dist.all_reduce(failed, group=self._group)
        if failed:
            raise error or OSError("the first rank could not write; see its message")


def _first_line(error: BaseException) -> str:
    """The cause of an error that may hold the tracebacks of all ranks."""
    if isinstance(error, CheckpointException):
        rank, (cause, _) = next(iter(error.failures.items()))
        return f"rank {rank}: {cause}"
    return str(error)
