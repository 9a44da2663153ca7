"""Questions whose frames are decoded in one thread while a model answers those before in another."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event, Thread

from reelmill.curation.captions.contract import Question


def decoded_ahead(questions: Iterator[Question], least: int) -> Iterator[list[Question]]:
    """All questions, in groups of those that have been decoded by the time a group is asked for, `least` or more but
    for the last; decoding goes on meanwhile.

    Raises what `questions` raises, after the questions before. Once it is left, no thread advances `questions`.
    """
    ready: SimpleQueue[Question | BaseException | None] = SimpleQueue()
    stopped = Event()

    def decode() -> None:
        try:
            for question in questions:
                ready.put(question)
                if stopped.is_set():
                    return
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = Thread(target=decode, name="decode-ahead", daemon=True)
    thread.start()
    try:
        end = False
        while not end:
            group: list[Question] = []
            failure: BaseException | None = None
            while not end and (len(group) < least or not ready.empty()):
                found = ready.get()
                if isinstance(found, BaseException):
                    failure = found
                if found is None or failure is not None:
                    end = True
                else:
                    assert isinstance(found, Question)
                    group.append(found)
            if group:
                yield group
            if failure is not None:
                raise failure
    finally:
        stopped.set()
        thread.join()
