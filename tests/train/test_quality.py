"""Quality fine-tuning: what counts in its loss, and how its rate falls."""

import numpy as np
import pytest

from reelmill.tokenize.documents import image_document, text_document
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Contents, assemble
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.recipes import recipe

VOCAB = Vocabulary("bytes", 16)
PICTURE = image_document(VOCAB, np.arange(6).reshape(2, 3), "a mill")


def counted(ends_weight):
    """The weight of each target of a picture and a text under the recipe's weights, by the target."""
    data = recipe("qft").data
    weights = np.array([data.text_weight, data.structure_weight, data.vision_weight], np.float32)
    contents = [Contents(0, PICTURE), Contents(1, text_document(VOCAB, "a text"))]
    batch = assemble(VOCAB, [contents], 64, weights, ends_weight)
    found: dict[int, float] = {}
    for target, weight in zip(batch.targets.ravel().tolist(), batch.weights.ravel().tolist(), strict=True):
        found[target] = found.get(target, 0.0) + weight
    return {target: weight for target, weight in found.items() if weight}


def test_only_codes_count_as_in_the_released_script():
    codes = {VOCAB.vision_start + code: 1.0 for code in range(6)}
    assert counted(recipe("qft").data.ends_weight) == codes


def test_the_switch_counts_the_ends_of_rows_frames_and_pictures_and_no_other_structure():
    codes = {VOCAB.vision_start + code: 1.0 for code in range(6)}
    assert counted(1.0) == {**codes, VOCAB.eol: 2.0, VOCAB.eof: 1.0, VOCAB.eoi: 1.0}


def test_where_it_is_not_set_the_ends_weigh_what_structure_weighs():
    weights = np.array([1.0, 3.0, 0.5], np.float32)
    same = [assemble(VOCAB, [[Contents(0, PICTURE)]], 64, weights, ends).weights for ends in (None, 3.0)]
    np.testing.assert_array_equal(*same)


def test_the_rate_falls_on_a_line_to_zero():
    config = recipe("qft").optimizer
    rates = [config.rate(step, 1030) for step in range(1031)]
    assert rates[29] == config.lr and rates[1030] == 0.0
    np.testing.assert_allclose(np.diff(rates[30:]), -config.lr / 1000, rtol=1e-6)
    assert OptimizerConfig(lr=1.0, final_lr=0.5, schedule="linear", warmup_steps=0).rate(5, 10) == pytest.approx(0.75)
