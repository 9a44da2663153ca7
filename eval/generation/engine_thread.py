"""An engine in its own thread, for many clients: requests arrive from any thread, decode together, can be canceled.

Requests wait in a bounded queue until the cache has rows for them. The cache is allocated once, so memory does not grow
with the number of requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count

from reelmill.errors import ConfigError, MachineError
from reelmill.eval.generation.decoding import PLAIN, Decoding
from reelmill.eval.generation.engine import Engine
from reelmill.eval.generation.request import PictureDraft, Request, SampledToken
from reelmill.eval.generation.shared_engine import BEAT_S, LeadingEngine, LostRankError, Peers
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder

Deliver = Callable[[SampledToken | PictureDraft | Exception], None]
"""Receives each token of a request, drafts of its pictures if they were asked for, or the error that ends it, in the
engine's thread. It must not block."""

_SMOOTHING = 0.9
"""Weight of the old value in the moving average of the speed."""

log = logging.getLogger(__name__)


class QueueFullError(MachineError):
    """The queue is full; try again in `wait_s` seconds."""

    def __init__(self, waiting: int, queue: int, wait_s: float) -> None:
        super().__init__(f"{waiting} requests are waiting, and the queue holds {queue}; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


class StoppedError(MachineError):
    """The engine has stopped, and its requests with it."""


@dataclass
class _Job:
    number: int
    request: Request
    deliver: Deliver
    tokens_left: int
    """The most tokens that are still to be sampled."""
    drafts: bool


class EngineThread:
    """Runs requests of many clients on one engine with `rows` rows of `capacity` tokens.

    At most `queue` requests wait; those that free rows are about to take do not count. Requests start in the order in
    which they arrive, and the tokens of one do not depend on the others. `close` must be called. Raises MachineError if
    there is no memory for the cache.

    `cache_tokens`: see `Engine`; requests that have a row then wait in it for room. With `peers`, the ranks that share
    the model, this is their leader's. An error then ends it, since the ranks no longer agree: `failed` gets it.
    """

    def __init__(
        self,
        model: Decoder,
        vocab: Vocabulary,
        *,
        rows: int,
        capacity: int,
        queue: int,
        compile: bool = False,
        decoding: Decoding = PLAIN,
        peers: Peers | None = None,
        cache_tokens: int | None = None,
    ) -> None:
        self.rows, self.capacity, self.queue = rows, capacity, queue
        self.failed: Future[None] = Future()
        self._peers = peers
        make: Callable[..., Engine] = Engine if peers is None else partial(LeadingEngine, peers=peers)
        self._make_engine: Callable[[], Engine] = lambda: make(
            model,
            vocab,
            rows=rows,
            capacity=capacity,
            compile=compile,
            window=decoding.window,
            pictures=decoding.pictures,
            cache_tokens=cache_tokens,
        )
        sizes, dtype = model.config, model.embed_tokens.weight.dtype
        self.cache_tokens = cache_tokens or rows * capacity
        self.cache_bytes = 2 * sizes.layers * self.cache_tokens * sizes.kv_heads * sizes.head_size * dtype.itemsize
        self._numbers = count()
        self._changed = threading.Condition()
        # Everything below is read and written with the lock held. Only the thread touches the engine.
        self._waiting: deque[_Job] = deque()
        self._running: dict[int, _Job] = {}
        self._canceled: set[int] = set()
        self._is_closed = False
        self._tokens_per_s = 0.0
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except Exception as error:
            size = f"{cache_tokens:,}" if cache_tokens else f"{rows} x {capacity:,}"
            raise MachineError(
                f"no memory for a cache of {size} tokens, {self.cache_bytes / 2**20:,.0f} MiB "
                f"({str(error).splitlines()[0]}); lower --rows, --context-tokens or --cache-tokens"
            ) from error

    def submit(self, requests: Sequence[Request], deliver: Sequence[Deliver], *, drafts: bool = False) -> list[int]:
        """Queue all of the requests or none; returns their numbers. Each ends with an `is_last` token or an error.

        With `drafts` pictures that are drawn in another order than that of their tokens are delivered after each pass.

        Raises ConfigError for a request that can never run, QueueFullError if too many wait, StoppedError at the end.
        """
        for request in requests:
            self._check(request)
        if len(requests) > self.queue:
            raise ConfigError(
                f"{len(requests)} sequences are requested at once; the queue holds {self.queue} (--queue)"
            )
        with self._changed:
            if self._is_closed:
                raise StoppedError("the server is stopping; try again when it is back")
            if self._without_row(requests) > self.queue:
                raise QueueFullError(self._without_row(()), self.queue, self._seconds_left())
            jobs = [
                _Job(next(self._numbers), request, give, request.max_new_tokens, drafts)
                for request, give in zip(requests, deliver, strict=True)
            ]
            self._waiting += jobs
            self._changed.notify()
        return [job.number for job in jobs]

    def cancel(self, numbers: Iterable[int]) -> None:
        """Cancel requests. A number that has ended or never existed is ignored."""
        with self._changed:
            self._canceled |= set(numbers)
            self._waiting = deque(job for job in self._waiting if job.number not in self._canceled)
            self._changed.notify()

    def queue_position(self, number: int) -> int | None:
        """How many requests wait before this one, or None if it does not wait."""
        with self._changed:
            return next((place for place, job in enumerate(self._waiting) if job.number == number), None)

    def status(self) -> dict[str, float]:
        """The number of requests `waiting` and `running`, and `tokens_per_s` of all of them together."""
        with self._changed:
            return {
                "waiting": len(self._waiting),
                "running": len(self._running),
                "tokens_per_s": round(self._tokens_per_s, 1) if self._running else 0.0,
            }

    def stop(self) -> None:
        """Like `close`, without waiting for it; may be called in a signal handler."""
        # A signal handler may interrupt a thread that holds the lock, so another thread has to take it.
        threading.Thread(target=self.close, daemon=True).start()

    def close(self) -> None:
        """End every request with StoppedError, and then the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _check(self, request: Request) -> None:
        request.check()
        if len(request.prompts) > self.rows or request.max_length > self.capacity:
            raise ConfigError(
                f"prompt and answer can take {request.max_length:,} tokens"
                f"{f', {len(request.prompts)} times because of guidance' if request.scales else ''}; this server holds "
                f"{self.rows} x "
                f"{self.capacity:,}. Ask for less, or start it with more (--rows, --context-tokens)"
            )
        if len(request.prompts) * request.max_length > self.cache_tokens:
            raise ConfigError(
                f"prompt and answer can take {request.max_length:,} tokens, {len(request.prompts)} times; this server "
                f"holds {self.cache_tokens:,}. Ask for less, or start it with more (--cache-tokens)"
            )

    def _work(self) -> None:
        try:
            self._run()
        finally:  # even if a new engine cannot be made
            with self._changed:
                self._is_closed = True
            self._end(StoppedError("the server is stopping"), only_running=False)

    def _run(self) -> None:
        try:
            engine = self._make_engine()
            engine.capture()
        except Exception as error:  # raised again in __init__
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        while self._start_jobs(engine):
            start = time.perf_counter()
            try:
                tokens = engine.step()
            except Exception as error:  # whatever it is (out of memory): running requests get it, the others go on
                if self._peers is not None:
                    self._fail(error)
                    return
                log.exception("the engine failed")
                failure = MachineError(f"generation failed: {error}")
            else:
                for job, token in self._record(tokens, time.perf_counter() - start):
                    job.deliver(token)
                continue
            del engine  # frees its cache before another is allocated
            engine = self._make_engine()
            engine.capture()
            self._end(failure, only_running=True)
        if self._peers is not None:
            self._peers.end()

    def _fail(self, error: Exception) -> None:
        """End everything, since the ranks no longer agree."""
        lost = error if isinstance(error, LostRankError) else MachineError(f"generation failed: {error}")
        lost.__cause__ = error.__cause__ if lost is error else error
        with self._changed:
            self._is_closed = True
        self._end(lost, only_running=False)
        self.failed.set_exception(lost)

    def _start_jobs(self, engine: Engine) -> bool:
        """Wait for work and give the engine the requests that it has room for; False at the end."""
        with self._changed:
            beat_s = None if self._peers is None else BEAT_S
            self._changed.wait_for(lambda: self._running or self._waiting or self._is_closed, beat_s)
            if self._is_closed:
                return False
            for number in self._canceled:
                if self._running.pop(number, None):
                    engine.cancel(number)
            self._canceled.clear()
            free = self._free_rows()
            started = []
            while self._waiting and len(self._waiting[0].request.prompts) <= free:
                job = self._waiting.popleft()
                free -= len(job.request.prompts)
                started.append(job)
                self._running[job.number] = job
        for job in started:  # without the lock, since checking a long prompt takes a while
            self._start(engine, job)
        return True

    def _start(self, engine: Engine, job: _Job) -> None:
        try:
            engine.submit(job.number, job.request, job.deliver if job.drafts else None)
        except Exception as error:  # the prompt does not begin a document: only this request ends
            with self._changed:
                del self._running[job.number]
            job.deliver(error)

    def _record(self, tokens: list[SampledToken], seconds: float) -> list[tuple[_Job, SampledToken]]:
        """The tokens with their jobs. Jobs that end are forgotten."""
        with self._changed:
            recorded = [(self._running[token.request], token) for token in tokens]
            for job, token in recorded:
                job.tokens_left = 0 if token.is_last else job.tokens_left - 1
                if token.is_last:
                    del self._running[token.request]
            if tokens:
                speed = len(tokens) / seconds
                self._tokens_per_s = _SMOOTHING * (self._tokens_per_s or speed) + (1 - _SMOOTHING) * speed
        return recorded

    def _end(self, error: Exception, *, only_running: bool) -> None:
        """End requests with an error."""
        with self._changed:
            ended = [*self._running.values()]
            self._running.clear()
            if not only_running:
                ended += self._waiting
                self._waiting.clear()
        for job in ended:
            job.deliver(error)

    def _free_rows(self) -> int:
        return self.rows - sum(len(job.request.prompts) for job in self._running.values())

    def _without_row(self, requests: Sequence[Request]) -> int:
        """How many requests in the queue, with `requests` appended, wait beyond what the free rows can take."""
        waiting = [*(job.request for job in self._waiting), *requests]
        rows = accumulate(len(request.prompts) for request in waiting)
        free = self._free_rows()
        return sum(row > free for row in rows)

    def _seconds_left(self) -> float:
        """About how long all present requests will take; at least a second."""
        tokens = sum(job.tokens_left for job in (*self._running.values(), *self._waiting))
        return max(1.0, tokens / self._tokens_per_s if self._tokens_per_s else 1.0)
