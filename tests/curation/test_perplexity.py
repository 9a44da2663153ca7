"""A language model in a folder finds sentences likelier than their words in another order."""

import math
import random

import pytest
from language_models import write_small_model

from reelmill.curation.judging.perplexity import Perplexity
from reelmill.errors import WeightsError

READ = (
    "Fold the sheet along the long side and press the edge.",
    "Turn the sheet and fold the corner to the edge.",
    "Press the corner and turn the long side down.",
)
LIKE = "Turn the sheet and press the edge. Fold the long side to the corner."


@pytest.fixture(scope="module", params=[True, False], ids=["with a beginning", "without"])
def folder(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("lm")
    write_small_model(path, READ * 2, steps=40, begins=request.param)
    return path


def test_sentences_are_likelier_than_their_words_shuffled(folder):
    model = Perplexity(str(folder))
    words = LIKE.split()
    random.Random(1).shuffle(words)
    sentences, shuffled = model.judge(LIKE).value, model.judge(" ".join(words)).value
    assert 1.0 < sentences < shuffled / 2
    assert model.judge(" ".join(READ)).value < sentences


def test_a_text_longer_than_the_context_is_read_in_parts(folder):
    model = Perplexity(str(folder))
    long = model.judge(" ".join(READ * 30))
    assert long.problem is None and math.isfinite(long.value) and long.value < 10


def test_too_little_has_no_perplexity(folder):
    model = Perplexity(str(folder))
    assert (model.judge("").value, model.judge("").problem) == (None, "nothing_said")
    assert (model.judge("Fold it.").value, model.judge("Fold it.").problem) == (None, "too_short")


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_thing"}')
    with pytest.raises(WeightsError, match="needs config"):
        Perplexity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Perplexity(str(tmp_path))
