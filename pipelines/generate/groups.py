"""Groups of processes that share a model, under torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from reelmill.errors import ConfigError
from reelmill.train.parallel import join_ranks


@contextmanager
def groups_of(size: int) -> Iterator[tuple[DeviceMesh, int, int]]:
    """The mesh of this process's group of `size` neighbors, the group's number, and how many groups there are.

    ConfigError where torchrun's processes are no multiple of the size.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks % size:
        raise ConfigError(
            f"--tensor is {size}, and there are {ranks} processes; start a multiple with torchrun "
            f"(--nproc-per-node {size})."
        )
    with join_ranks() as joined:
        mesh = init_device_mesh(joined.device.type, (ranks // size, size), mesh_dim_names=("prompts", "tensor"))
        yield mesh["tensor"], joined.rank // size, ranks // size
