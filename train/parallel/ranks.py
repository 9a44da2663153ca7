"""The processes of a run, as one group; a single process is a group of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from reelmill import errors
from reelmill.errors import ConfigError, MachineError, ReelmillError
from reelmill.os_errors import os_failure

Device = Literal["auto", "cpu", "cuda"]
TIMEOUT_S = 600.0
_CUDA_ENVIRONMENT = {
    # Batches of varying lengths would fragment memory.
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    # NCCL's flight recorder: after a timeout, a file per rank says which collective it waited in.
    "TORCH_FR_BUFFER_SIZE": "2000",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
}
_LOST = (
    "Timed out waiting", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "monitoredBarrier"
)  # fmt: skip
"""What gloo and NCCL report for a rank that does not answer."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of the run."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def is_first(self) -> bool:
        """Whether this process writes the logs and the small files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all ranks, in place."""
        dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank."""
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def highest(self, number: int) -> int:
        """The maximum over all ranks."""
        numbers = torch.tensor(number)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def gather(self, words: Sequence[str]) -> list[str]:
        """The texts of all ranks, in the order of the ranks."""
        said = json.dumps(list(words)).encode()
        padded = torch.tensor(list(said.ljust(self.highest(len(said)))), dtype=torch.uint8)
        parts = [torch.empty_like(padded) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, padded)
        return [str(word) for part in parts for word in json.loads(bytes(part.tolist()))]

    def table(self, numbers: Sequence[float]) -> Tensor:
        """float64 [ranks, numbers]: those of all ranks, in host memory."""
        own = torch.tensor(numbers, dtype=torch.float64)
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, own)
        return torch.stack(rows)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Wraps work without collectives: if it fails on one rank, all ranks raise that error.

        Without this, the others would wait for the rank that left until the group's timeout.
        """
        error: ReelmillError | None = None
        try:
            yield
        except (ReelmillError, OSError) as caught:
            error = os_failure(caught) if isinstance(caught, OSError) else caught
        if self.any(error is not None):
            name, message, *_ = self.gather([type(error).__name__, str(error)] if error else [])
            raise error or getattr(errors, name, MachineError)(message)

    def wait(self) -> None:
        """Wait until every rank is here: by gloo, whose timeout is half an hour."""
        dist.all_reduce(torch.zeros(1))


def is_lost_rank(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank has ended or not answered."""
    return any(sign in str(error) for sign in _LOST)


@contextmanager
def join_ranks(device: Device = "auto", timeout_s: float = TIMEOUT_S) -> Iterator[Ranks]:
    """The group that torchrun describes in the environment, or a group of one; left again at the end.

    A group that there is already (Ray Train makes it) is taken, and stays. `auto` takes CUDA where there is any. Raises
    ConfigError for CUDA where there is none, and MachineError where another rank has ended or not answered for
    `timeout_s` seconds.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no CUDA device here; set device to cpu or auto.")
    on_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_cuda else torch.device("cpu")
    if on_cuda:
        for name, value in _CUDA_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN builds a plan for each new document length
        torch.cuda.set_device(where)
    is_ours = not dist.is_initialized()
    if is_ours:
        _make_group(where, timedelta(seconds=timeout_s))
    try:
        mesh = init_device_mesh(where.type, (dist.get_world_size(),))
        yield Ranks(dist.get_rank(), dist.get_world_size(), where, mesh)
    except RuntimeError as error:
        if not is_lost_rank(error):
            raise
        raise MachineError(
            f"another rank has ended or hangs: it did not answer within {timeout_s:g} s (parallel.timeout_s). See its "
            "own messages; the same command goes on from the last checkpoint."
        ) from error
    finally:
        if is_ours:
            dist.destroy_process_group()


def _make_group(where: torch.device, timeout: timedelta) -> None:
    # Flags and messages are sent from host memory. Bind NCCL to its GPU now: at its first call it would guess.
    options: dict[str, Any] = {"backend": "gloo", "timeout": timeout}
    if where.type == "cuda":
        options.update(backend="cpu:gloo,cuda:nccl", device_id=where)
    if "RANK" not in os.environ:
        options.update(store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    else:
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))  # type: ignore[attr-defined]
        # torchrun keeps its store when it starts the ranks again, with the addresses of those that have ended.
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        own = dist.PrefixStore(f"start-{again}", store)  # type: ignore[attr-defined]
        options.update(store=own, rank=rank, world_size=size)
    dist.init_process_group(**options)
