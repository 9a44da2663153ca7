"""vLLM answers while the frames of the next samples are decoded."""

import sys
import threading
from types import SimpleNamespace

import pytest

from reelmill.curation.captions.ahead import decoded_ahead
from reelmill.curation.captions.config import VllmConfig
from reelmill.curation.captions.contract import AnswerSettings, Question
from reelmill.curation.captions.vllm import LEAST, VllmCaptioner

COUNT = 3 * LEAST


def question(number):
    return Question({"sample_id": str(number)}, "What is it?", [[b"a frame"]])


@pytest.fixture
def captioner(monkeypatch):
    """One whose model first answers when `may_answer` is set, and notes how many it is asked about at a time."""
    asked, may_answer = [], threading.Event()

    class LLM:
        def __init__(self, **settings):
            pass

        def chat(self, conversations, sampling, use_tqdm):
            asked.append(len(conversations))
            assert may_answer.wait(30)
            answer = SimpleNamespace(text="A mill.", finish_reason="stop")
            return [SimpleNamespace(outputs=[answer]) for _ in conversations]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **settings: settings))
    made = VllmCaptioner(VllmConfig(model="m"))
    made.setup(AnswerSettings(64, 0.0, 12))
    return made, asked, may_answer


def test_frames_are_decoded_while_the_model_answers(captioner):
    made, asked, may_answer = captioner

    def questions():
        for number in range(COUNT):
            if number == COUNT - 1:  # reached only if decoding goes on during the first answers
                may_answer.set()
            yield question(number)

    replies = list(made.ask(questions()))
    assert sorted(int(reply.question.row["sample_id"]) for reply in replies) == list(range(COUNT))
    assert sum(asked) == COUNT
    assert asked[0] >= LEAST


def test_what_goes_wrong_while_decoding_comes_after_what_was_decoded():
    def questions():
        yield from map(question, range(3))
        raise ValueError("a broken frame")

    found = []
    with pytest.raises(ValueError, match="a broken frame"):
        for group in decoded_ahead(questions(), least=2):
            found += [one.row["sample_id"] for one in group]
    assert found == ["0", "1", "2"]


def test_nothing_is_decoded_once_the_answers_are_given_up():
    advanced, ended = [], []

    def questions():
        try:
            for number in range(10**9):
                advanced.append(number)
                yield question(number)
        finally:
            ended.append(threading.current_thread())

    groups = decoded_ahead(questions(), least=2)
    next(groups)
    groups.close()
    count = len(advanced)
    assert not any(thread.name == "decode-ahead" for thread in threading.enumerate())
    assert len(advanced) == count


def test_no_questions_no_groups():
    assert list(decoded_ahead(iter([]), least=8)) == []
