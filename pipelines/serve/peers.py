"""Serving a model that several processes share under torchrun: the first has the page, the others follow it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from reelmill.errors import ConfigError
from reelmill.eval.generation import Studio
from reelmill.eval.generation.shared_engine import ANSWER_S, Peers, follow
from reelmill.pipelines.serve.served_model import ServeConfig
from reelmill.train.parallel import join_ranks
from reelmill.train.provenance import Training


@contextmanager
def sharing(tensor: int, config: ServeConfig) -> Iterator[Peers | None]:
    """The processes that share the model, None for one alone.

    Raises ConfigError where torchrun has not started as many.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks != tensor:
        raise ConfigError(
            f"--tensor is {tensor}, and there are {ranks} processes; one page is served by as many as share its model "
            f"(torchrun --nproc-per-node {tensor})."
        )
    if tensor == 1:
        yield None
        return
    if config.compile:
        raise ConfigError("--tensor and --compile are both given; a shared model's steps are not compiled.")
    with join_ranks(timeout_s=ANSWER_S) as joined:
        yield Peers(joined.mesh)


def follow_leader(studio: Studio, config: ServeConfig, training: Training | None, peers: Peers) -> None:
    """Compute this process's part of the model until the first one ends."""
    # Ctrl-C reaches all processes of a terminal. The first ends its clients' streams, and then these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow(
        studio.model,
        studio.vocab,
        peers,
        rows=config.rows,
        capacity=config.capacity(studio, training),
        decoding=studio.decoding,
        cache_tokens=config.cache_tokens or None,
    )
