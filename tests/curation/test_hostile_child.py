"""A decoder that was taken over may say anything: it costs one item, and the next one is as if it had never been."""

import json
import os
import struct

import hostile
import numpy as np
import pytest
from hostile import ARRAYS, ITEM, SAMPLE, SHAPES, message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelmill.config import from_dict
from reelmill.curation.clip_messages import asked_clips
from reelmill.curation.ledger import ITEMS, PLAN
from reelmill.curation.scoring import ItemScorer, ScoreConfig
from reelmill.isolation.parent import ItemFailed

END = message({"type": "end", "arrays": []})
GOOD_SAMPLE, GOOD_ITEM = message(SAMPLE, *ARRAYS), message(ITEM)
SURROGATE = "\ud800"


def sample(**changes):
    return message({**SAMPLE, **changes}, *ARRAYS) + GOOD_ITEM + END


def shaped(*shapes, arrays=ARRAYS):
    return message({**SAMPLE, "arrays": list(shapes)}, *arrays) + GOOD_ITEM + END


def item(**changes):
    return GOOD_SAMPLE + message({**ITEM, **changes}) + END


def without(body, key, *arrays):
    return message({name: value for name, value in body.items() if name != key}, *arrays)


def refused(**changes):
    return message({"type": "refused", "reason_class": "item", "reason": "a: b", "arrays": [], **changes})


BAD = {
    # no message at all
    "nothing": b"",
    "half a header": b"\0\0\0",
    "noise": b"\xff" * 64,
    "a length of 4 GiB": struct.pack(">II", 0xFFFFFFFF, 0),
    "half a message": struct.pack(">II", 100, 0) + b"{",
    "no JSON": message(b"<html>"),
    "no UTF-8": message(b'{"type": "end\xff"}'),
    "a number of ten thousand digits": message(b"9" * 10_000),
    "nested too deep": message(b"[" * 100_000),
    "null": message(b"null"),
    "a list": message(b"[]"),
    "text": message(b'"end"'),
    "an empty object": message(b"{}"),
    # another kind of message
    "no type": without(SAMPLE, "type", *ARRAYS) + GOOD_ITEM + END,
    "a type that is a list": sample(type=["sample"]),
    "an unknown type": sample(type="samples"),
    "a type that is half a character": sample(type=SURROGATE),
    "a clip": message({"type": "clip", "key": "a/0", "arrays": [["frames", "uint8", [1, 2, 2, 3]]]}, bytes(12)),
    # fields
    **{f"a sample without {key}": without(SAMPLE, key, *ARRAYS) + GOOD_ITEM + END for key in SAMPLE if key != "type"},
    "true as a width": sample(width=True),
    "text as a width": sample(width="2"),
    "null as a width": sample(width=None),
    "a broken width": sample(width=2.5),
    "a negative width": sample(width=-1),
    "a width of 33 bits": sample(width=2**33),
    "a height of 10,000 bits": sample(height=2**10_000),
    "true as a time": sample(start_s=True),
    "NaN as a time": sample(start_s=float("nan")),
    "an infinite time": sample(end_s=float("inf")),
    "a time of 400 digits": sample(end_s=10**400),
    "a negative time": sample(start_s=-1.0),
    "an end before the start": sample(start_s=2.0),
    "a rate below zero": sample(fps=-25),
    "a list as a rate": sample(fps=[25]),
    # arrays
    "arrays that are an object": sample(arrays={}),
    "an array that is not described": sample(arrays=[*SHAPES[:2], 3]),
    "a name that is a number": shaped(SHAPES[0], SHAPES[1], [3, "uint8", [0, 3, 1, 1]], SHAPES[3]),
    "an array too few": shaped(*SHAPES[:2], arrays=ARRAYS[:2]),
    "an array too many": shaped(*SHAPES, ["more", "uint8", [1]], arrays=[*ARRAYS, b"\0"]),
    "an array twice": shaped(SHAPES[0], SHAPES[0], SHAPES[1], arrays=[ARRAYS[0], ARRAYS[0], ARRAYS[1]]),
    "another count": message(SAMPLE, *ARRAYS, count=7) + GOOD_ITEM + END,
    "an object array": shaped(["images", "object", [1, 2, 2, 3]], *SHAPES[1:]),
    "a float image": shaped(["images", "float64", [1, 2, 2, 3]], *SHAPES[1:]),
    "an image of two sides": shaped(["images", "uint8", [2, 6]], *SHAPES[1:]),
    "an image with alpha": shaped(["images", "uint8", [1, 1, 3, 4]], *SHAPES[1:]),
    "a side below zero": shaped(["images", "uint8", [-1, 2, 2, 3]], *SHAPES[1:]),
    "true as a side": shaped(["images", "uint8", [True, 2, 2, 3]], *SHAPES[1:]),
    "a broken side": shaped(["images", "uint8", [1.0, 2, 2, 3]], *SHAPES[1:]),
    "an image of 12 GB": shaped(["images", "uint8", [1000, 2000, 2000, 3]], *SHAPES[1:]),
    "an empty image of 3 EB": shaped(["images", "uint8", [0, 2**30, 2**30, 3]], *SHAPES[1:]),
    "runs that lift a message over the bound": shaped(*SHAPES[:2], ["runs", "uint8", [400, 3, 1000, 1000]], SHAPES[3]),
    "details of fewer frames": shaped(*SHAPES[:3], ["details", "uint8", [0, 9, 2, 2]], arrays=[*ARRAYS[:3], b""]),
    "details that are no squares": shaped(*SHAPES[:3], ["details", "uint8", [1, 9, 4, 1]]),
    "more times than images": shaped(SHAPES[0], ["times", "float64", [2]], *SHAPES[2:], arrays=[bytes(28)] * 4),
    "a time in an array that is NaN": message(SAMPLE, ARRAYS[0], np.array([np.nan]).tobytes(), *ARRAYS[2:]),
    "half an array": message(SAMPLE, bytes(5)),
    # the item
    "no item": GOOD_SAMPLE + END,
    "two items": GOOD_SAMPLE + GOOD_ITEM + GOOD_ITEM + END,
    "one span twice": GOOD_SAMPLE + GOOD_SAMPLE + GOOD_ITEM + END,
    "two spans that are one to the microsecond": GOOD_SAMPLE + sample(end_s=1.0000001),
    "an item without a checksum": GOOD_SAMPLE + without(ITEM, "sha256") + END,
    "a checksum that is none": item(sha256="z" * 64),
    "a checksum with a line end": item(sha256="0" * 63 + "\n"),
    "a codec that is half a character": item(codec=SURROGATE),
    "a codec that is a page": item(codec="h" * 5000),
    "a codec with escapes": item(codec="h264\x1b[2J"),
    "a codec that is a number": item(codec=264),
    "a duration of 33 million years": item(duration_s=1e15),
    # the end
    "no end": GOOD_SAMPLE + GOOD_ITEM,
    "a refusal of no class": refused(reason_class="final"),
    "a refusal whose reason is a number": refused(reason=3),
    "a refusal that is half a character": refused(reason=SURROGATE),
    "a refusal of ten thousand words": refused(reason="a " * 10_000),
    "a refusal, and then samples": refused() + GOOD_SAMPLE + GOOD_ITEM + END,
}  # fmt: skip
PLAUSIBLE = {
    "what an honest child says": GOOD_SAMPLE + GOOD_ITEM + END,
    "leftovers after the end": GOOD_SAMPLE + GOOD_ITEM + END + GOOD_SAMPLE + refused(),
    "noise after the end": GOOD_SAMPLE + GOOD_ITEM + END + b"\xff" * 100_000,
    "keys that nobody asked for": sample(more=SURROGATE, unit=10**400, sample_id="0" * 32),
}


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    """Scores an item of these bytes as a text; one scorer and one child for all."""
    folder = tmp_path_factory.mktemp("hostile")
    isolation = {"stall_s": 20.0, "memory_mb": 2048}
    scorer = ItemScorer(from_dict(ScoreConfig, {"expanders": {"text": "hostile:expand"}, "isolation": isolation}), {})

    def score(data, name="item"):
        path = folder / name
        path.write_bytes(data)
        os.utime(path, ns=(0, 0))  # it stands in the row of the item
        place = {"path": str(path), "offset": 0, "size": len(data), "item_id": "i" * 32, "uri": name}
        return scorer.score({**dict.fromkeys(PLAN.names), "unit": 0, "kind": "text", **place})

    yield score
    scorer.close()


@pytest.fixture(scope="module")
def honest(score):
    return score(b"plain words", "honest")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_costs_one_item(score, honest, name):
    row, rows = score(hostile.MARK + BAD[name])
    assert (row["status"], rows) == ("refused", [])
    assert row["reason"].partition(":")[0] in ("decoder_nonsense", "decoder_exited", "a")
    assert row.keys() == set(ITEMS.names)
    assert score(b"plain words", "honest") == honest


@pytest.mark.parametrize("name", PLAUSIBLE)
def test_what_could_be_true_is_taken_and_nothing_beside_it(score, honest, name):
    row, (sample,) = score(hostile.MARK + PLAUSIBLE[name])
    assert (row["status"], row["codec"], row["n_samples"]) == ("done", "h264", 1)
    assert (sample["width"], sample["unit"], len(sample["sample_id"])) == (2, 0, 32)
    assert score(b"plain words", "honest") == honest


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def lies(draw):
    """An honest conversation with a field, a shape or some bytes changed."""
    body, arrays = draw(st.sampled_from([(SAMPLE, ARRAYS), (ITEM, ())]))
    changed = {**body, draw(st.sampled_from(sorted(body))): draw(json_values)}
    told = bytearray(GOOD_SAMPLE + message(json.dumps(changed).encode(), *arrays) + GOOD_ITEM + END)
    for place in draw(st.lists(st.integers(0, len(told) - 1), max_size=2)):
        told[place] = draw(st.integers(0, 255))
    return bytes(told[: draw(st.integers(0, len(told)))])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lies())
def test_whatever_is_said_gives_rows_that_can_be_stored(score, told):
    row, rows = score(hostile.MARK + told)
    assert row["status"] in ("refused", "done")
    assert row["n_samples"] == len(rows)
    pa = pytest.importorskip("pyarrow")
    assert pa.Table.from_pylist([row], schema=ITEMS).num_rows == 1


CLIPS = [{"key": "a/0", "frames": 4, "height": 2, "width": 2}, {"key": "b/0", "height": 2, "width": 2}]
TEXTS = [{"key": "t/0"}]


def clip(key, *shape):
    return {"type": "clip", "key": key}, {"frames": np.zeros(shape, np.uint8)}


def words(key, data):
    return {"type": "text", "key": key}, {"text": np.frombuffer(data, np.uint8)}


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        (CLIPS, [clip("a/0", 4, 2, 2, 3)]),
        (CLIPS, [clip("a/0", 4, 2, 2, 3), clip("a/0", 4, 2, 2, 3), clip("b/0", 1, 2, 2, 3)]),
        (CLIPS, [clip("c/0", 4, 2, 2, 3), clip("b/0", 1, 2, 2, 3)]),
        (CLIPS, [clip("a/0", 8, 2, 2, 3), clip("b/0", 1, 2, 2, 3)]),
        (CLIPS, [clip("a/0", 4, 2, 2, 3), clip("b/0", 4, 2, 2, 3)]),
        (CLIPS, [words("a/0", b"four frames"), clip("b/0", 1, 2, 2, 3)]),
        (TEXTS, [clip("t/0", 1, 2, 2, 3)]),
        (TEXTS, [words("t/0", b"\xff\xfe")]),
        (TEXTS, [words("t/0", b"\xed\xa0\x80")]),
        (TEXTS, []),
    ],
)
def test_clips_are_those_that_were_asked_for(asked, messages):
    with pytest.raises(ItemFailed, match="decoder_nonsense: ") as failed:
        list(asked_clips(iter(messages), asked))
    assert failed.value.reason_class == "item"
