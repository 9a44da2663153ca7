"""One engine for many clients: requests come at any time from any thread, are drawn together, and may be given up.

A thread of its own steps the engine. Requests wait in a queue of bounded length until the cache has rows for them; the
cache is made once, so that memory does not grow with what is asked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate, count

from reelmill.errors import ConfigError, MachineError
from reelmill.eval.generation.engine import Engine
from reelmill.eval.generation.request import Request, SampledToken
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

Deliver = Callable[[SampledToken | Exception], None]
"""Gets each token of a request in the service's thread, or the error that ends it; it must not wait."""

_MEMORY = 0.9
"""How much of the measured speed stays with each step."""

log = logging.getLogger(__name__)


class QueueFull(MachineError):
    """More requests would wait than may; `wait_s` is when to come again."""

    def __init__(self, waiting: int, queue: int, wait_s: float) -> None:
        super().__init__(f"{waiting} requests wait already, of {queue} that may; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


class Closed(MachineError):
    """The service ends, and what was under way with it."""


@dataclass
class _Job:
    number: int
    request: Request
    deliver: Deliver
    left: int
    """Tokens that may still be drawn."""


class Service:
    """Draws for requests of many clients on one engine of `rows` rows of `capacity` tokens; at most `queue` wait.

    Those that the free rows are about to take do not count as waiting. Requests start in the order in which they come.
    What a request draws does not depend on the others. `close` it. Raises MachineError where there is no room for the
    cache.
    """

    def __init__(
        self, model: Decoder, vocab: Vocabulary, *, rows: int, capacity: int, queue: int, compile: bool = False
    ) -> None:
        self.rows, self.capacity, self.queue = rows, capacity, queue
        self._make: Callable[[], Engine] = lambda: Engine(model, vocab, rows=rows, capacity=capacity, compile=compile)
        sizes, dtype = model.config, model.embed_tokens.weight.dtype
        self.cache_bytes = 2 * sizes.layers * rows * capacity * sizes.kv_heads * sizes.head_size * dtype.itemsize
        self._numbers = count()
        self._changed = threading.Condition()
        # All below is read and changed with the lock held; the engine is touched by the thread alone.
        self._waiting: deque[_Job] = deque()
        self._working: dict[int, _Job] = {}
        self._given_up: set[int] = set()
        self._is_closed = False
        self._rate = 0.0
        self._began: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()
        try:
            self._began.result()
        except Exception as error:
            raise MachineError(
                f"no room for a cache of {rows} x {capacity:,} tokens, {self.cache_bytes / 2**20:,.0f} MiB "
                f"({str(error).splitlines()[0]}); lower --rows or --context"
            ) from error

    def submit(self, requests: Sequence[Request], deliver: Sequence[Deliver]) -> list[int]:
        """Queue requests, all or none; returns their numbers. A token with `is_last`, or an error, ends each.

        Raises ConfigError for one that can never run, QueueFull where too many wait, Closed at the end.
        """
        for request in requests:
            self._check(request)
        if len(requests) > self.queue:
            raise ConfigError(f"{len(requests)} are asked for at once; at most {self.queue} may wait (--queue)")
        with self._changed:
            if self._is_closed:
                raise Closed("the server stops; ask again when it is back")
            if self._without_row(requests) > self.queue:
                raise QueueFull(self._without_row(()), self.queue, self._seconds_left())
            jobs = [
                _Job(next(self._numbers), request, give, request.most)
                for request, give in zip(requests, deliver, strict=True)
            ]
            self._waiting += jobs
            self._changed.notify()
        return [job.number for job in jobs]

    def cancel(self, numbers: Iterable[int]) -> None:
        """Give requests up; a number that has ended, or was never there, changes nothing."""
        with self._changed:
            self._given_up |= set(numbers)
            self._waiting = deque(job for job in self._waiting if job.number not in self._given_up)
            self._changed.notify()

    def before(self, number: int) -> int | None:
        """How many wait before a request that waits; None for one that does not."""
        with self._changed:
            return next((place for place, job in enumerate(self._waiting) if job.number == number), None)

    def status(self) -> dict[str, float]:
        """What is going on: requests `waiting` and `drawing`, `tokens_per_s` of all together."""
        with self._changed:
            is_idle = not self._working
            return {
                "waiting": len(self._waiting),
                "drawing": len(self._working),
                "tokens_per_s": 0.0 if is_idle else round(self._rate, 1),
            }

    def stop(self) -> None:
        """End every request with Closed, without waiting for it; may be called in a signal's handler."""
        # The handler may have come upon this thread with the lock held, so another one takes it.
        threading.Thread(target=self.close, daemon=True).start()

    def close(self) -> None:
        """End every request with Closed, and the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _check(self, request: Request) -> None:
        request.check()
        if len(request.prompts) > self.rows or request.tokens > self.capacity:
            raise ConfigError(
                f"prompt and answer may take {request.tokens:,} tokens, "
                f"{'twice for guidance, ' if len(request.prompts) > 1 else ''}and this server holds {self.rows} x "
                f"{self.capacity:,}; ask for less, or start it with more (--rows, --context)"
            )

    def _work(self) -> None:
        try:
            self._draw()
        finally:  # also where no engine can be made any more
            with self._changed:
                self._is_closed = True
            self._end(Closed("the server stops"), only_working=False)

    def _draw(self) -> None:
        try:
            engine = self._make()
        except Exception as error:  # who made the service gets it
            self._began.set_exception(error)
            return
        self._began.set_result(None)
        while self._take(engine):
            began = time.perf_counter()
            try:
                events = engine.step()
            except Exception as error:  # whatever it is (out of memory), those at work get it and the others go on
                log.exception("the engine failed")
                failure = MachineError(f"drawing failed: {error}")
            else:
                for job, event in self._note(events, time.perf_counter() - began):
                    job.deliver(event)
                continue
            del engine  # its cache is gone before there is another
            engine = self._make()
            self._end(failure, only_working=True)

    def _take(self, engine: Engine) -> bool:
        """Wait for work, and give the engine what there is room for; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._working or self._waiting or self._is_closed)
            if self._is_closed:
                return False
            for number in self._given_up:
                if self._working.pop(number, None):
                    engine.cancel(number)
            self._given_up.clear()
            free = self._free()
            taken = []
            while self._waiting and len(self._waiting[0].request.prompts) <= free:
                job = self._waiting.popleft()
                free -= len(job.request.prompts)
                taken.append(job)
                self._working[job.number] = job
        for job in taken:  # checking a long prompt takes its time: without the lock
            self._begin(engine, job)
        return True

    def _begin(self, engine: Engine, job: _Job) -> None:
        try:
            engine.submit(job.number, job.request)
        except Exception as error:  # the prompt is no beginning of a document: this request alone ends
            with self._changed:
                del self._working[job.number]
            job.deliver(error)

    def _note(self, events: list[SampledToken], seconds: float) -> list[tuple[_Job, SampledToken]]:
        """The events with their jobs; those that end are forgotten."""
        with self._changed:
            noted = [(self._working[event.request], event) for event in events]
            for job, event in noted:
                job.left = 0 if event.is_last else job.left - 1
                if event.is_last:
                    del self._working[event.request]
            if events:
                self._rate = _MEMORY * (self._rate or len(events) / seconds) + (1 - _MEMORY) * len(events) / seconds
        return noted

    def _end(self, error: Exception, *, only_working: bool) -> None:
        """End requests with an error."""
        with self._changed:
            ended = [*self._working.values()]
            self._working.clear()
            if not only_working:
                ended += self._waiting
                self._waiting.clear()
        for job in ended:
            job.deliver(error)

    def _free(self) -> int:
        """Rows that nothing is drawn in."""
        return self.rows - sum(len(job.request.prompts) for job in self._working.values())

    def _without_row(self, requests: Sequence[Request]) -> int:
        """How many of those in the queue, and of `requests` behind them, wait beyond what the free rows take."""
        waiting = [*(job.request for job in self._waiting), *requests]
        rows = accumulate(len(request.prompts) for request in waiting)
        free = self._free()
        return sum(row > free for row in rows)

    def _seconds_left(self) -> float:
        """About when all that is asked now will be drawn; at least a second."""
        left = sum(job.left for job in (*self._working.values(), *self._waiting))
        return max(1.0, left / self._rate if self._rate else 1.0)
