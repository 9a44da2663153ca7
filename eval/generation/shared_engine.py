"""One engine in several ranks that compute a model's layers together (`reelmill.train.shared_layers`).

The first rank leads: before each step it tells the others what it has done to its engine, they do the same to theirs,
and all take the step. Sampling is the same everywhere, so nothing comes back. What is told is JSON over gloo, a sum to
which the others add zeros: a rank that hangs is noticed as one that is gone is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from reelmill.errors import MachineError
from reelmill.eval.generation.decoding import Decoding
from reelmill.eval.generation.engine import Engine
from reelmill.eval.generation.request import OnDraft, Request, SampledToken
from reelmill.eval.generation.request_message import from_message, to_message
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder
from reelmill.train.parallel import is_lost_rank

BEAT_S = 5.0
"""An idle leader speaks so often, so that the others need not wait without a bound."""
ANSWER_S = 60.0
"""A rank that is silent for so long hangs."""
START_S = 600.0
"""How much longer than the others a rank may take to read its weights."""

Action = dict[str, Any]
_STEP, _END = 1, 2


class LostRankError(MachineError):
    """Another rank has ended or hangs. Nothing can be drawn without its part of the model."""


@contextmanager
def other_ranks_answer() -> Iterator[None]:
    """Raises LostRankError where a collective within finds another rank gone or silent."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_rank(error):
            raise
        raise LostRankError(
            f"another of the ranks that share the model has ended or hangs ({str(error).splitlines()[0][:200]}). See "
            "its own messages, and start all of them again"
        ) from error


class Peers:
    """The ranks of a 1-D `mesh` that share a model; all of them make this at the same time."""

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self.leads = mesh.get_local_rank() == 0
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=ANSWER_S))

    def meet(self) -> None:
        """Wait until all have read their weights."""
        with other_ranks_answer():
            dist.monitored_barrier(self._group, timedelta(seconds=START_S))

    def tell(self, actions: list[Action]) -> None:
        """As the leader: have the others do these, and take a step with them."""
        self._say(_STEP, json.dumps(actions).encode() if actions else b"")

    def end(self) -> None:
        """As the leader: have the others end."""
        self._say(_END, b"")

    def hear(self) -> list[Action] | None:
        """As another: what is to be done before the next step, None at the end."""
        with other_ranks_answer():
            kind, length = self._sum(0, 0)
            if kind == _END:
                return None
            if not length:
                return []
            said = torch.empty(length, dtype=torch.uint8)
            dist.broadcast(said, 0, self._group)
        actions: list[Action] = json.loads(said.numpy().tobytes())
        return actions

    def _say(self, kind: int, said: bytes) -> None:
        with other_ranks_answer():
            self._sum(kind, len(said))
            if said:
                dist.broadcast(torch.frombuffer(bytearray(said), dtype=torch.uint8), 0, self._group)

    def _sum(self, kind: int, length: int) -> tuple[int, int]:
        head = torch.tensor([kind, length])
        dist.all_reduce(head, group=self._group)
        return int(head[0]), int(head[1])


class LeadingEngine(Engine):
    """The leader's engine. A step that another rank does not take raises LostRankError."""

    def __init__(self, model: Decoder, vocab: Vocabulary, *, peers: Peers, **options: Any) -> None:
        super().__init__(model, vocab, **options)
        self._peers = peers
        self._actions: list[Action] = []
        peers.meet()

    def submit(self, number: int, request: Request, on_draft: OnDraft | None = None) -> None:
        """See `Engine`. Only what this one takes is told to the others."""
        super().submit(number, request, on_draft)
        self._actions.append({"number": number, "request": to_message(request)})

    def cancel(self, number: int) -> None:
        """See `Engine`."""
        super().cancel(number)
        self._actions.append({"number": number, "request": None})

    def step(self) -> list[SampledToken]:
        """See `Engine`. Without requests it finds out whether the others are there."""
        actions, self._actions = self._actions, []
        self._peers.tell(actions)
        with other_ranks_answer():
            return super().step()


def follow(
    model: Decoder,
    vocab: Vocabulary,
    peers: Peers,
    *,
    rows: int,
    capacity: int,
    decoding: Decoding,
    cache_tokens: int | None = None,
) -> None:
    """Do what the leader's engine of these sizes does, until it ends. Raises LostRankError if it is gone."""
    engine = Engine(
        model,
        vocab,
        rows=rows,
        capacity=capacity,
        window=decoding.window,
        pictures=decoding.pictures,
        cache_tokens=cache_tokens,
    )
    peers.meet()
    engine.capture()
    while (actions := peers.hear()) is not None:
        for action in actions:
            if action["request"] is None:
                engine.cancel(action["number"])
            else:
                engine.submit(action["number"], from_message(action["request"], vocab))
        with other_ranks_answer():
            engine.step()
