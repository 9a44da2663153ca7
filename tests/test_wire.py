"""Messages survive the pipe; anything else is refused, before memory is set aside for it."""

import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reelmill.isolation import wire
from reelmill.isolation.messages import ArraySpec, Kind
from reelmill.isolation.untrusted import (
    First,
    Integer,
    List,
    Maybe,
    Nonsense,
    Number,
    Record,
    Text,
    load_json,
)

KINDS = {
    "facts": Kind({"name": Text(5), "count": Integer(0, 2**31 - 1), "seconds": Number()}),
    "arrays": Kind(
        arrays={
            "a": ArraySpec("uint8", ("N", "H", 3)),
            "b": ArraySpec("float64", ("N",)),
            "c": ArraySpec("uint8", (2,)),
        }
    ),
}
FACTS = {"name": "x", "count": 1, "seconds": 0.5}


def receive(data, most_bytes=1 << 20):
    return wire.receive(io.BytesIO(data), KINDS, most_bytes)


def framed(body, count=0):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return wire._HEADER.pack(len(text), count) + text


utf8 = st.text(st.characters(codec="utf-8"), max_size=5)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(utf8, st.integers(0, 2**31 - 1), finite)
def test_facts_survive(name, count, seconds):
    stream = io.BytesIO()
    sent = {"type": "facts", "name": name, "count": count, "seconds": seconds}
    wire.send(stream, sent)
    assert receive(stream.getvalue()) == (sent, {})


@given(st.integers(0, 4), st.integers(0, 4), st.data())
def test_arrays_survive(n, h, data):
    sent = {
        "a": data.draw(hnp.arrays(np.uint8, (n, h, 3))),
        "b": data.draw(hnp.arrays(np.float64, (n,), elements=finite)),
        "c": data.draw(hnp.arrays(np.uint8, (2,))),
    }
    stream = io.BytesIO()
    wire.send(stream, {"type": "arrays"}, dict(data.draw(st.permutations(list(sent.items())))))
    stream.seek(0)
    body, got = wire.receive(stream, KINDS)
    assert body == {"type": "arrays"}
    assert got.keys() == sent.keys()
    assert all(np.array_equal(got[name], sent[name]) and got[name].dtype == sent[name].dtype for name in sent)
    assert wire.receive(stream, KINDS) is None


@given(st.binary(min_size=1, max_size=200))
def test_noise_is_refused_not_believed(data):
    with pytest.raises(Nonsense):
        receive(data)


@pytest.mark.parametrize(
    "body",
    [
        b"null", b"[]", b"3", b"{}", b'"facts"', b"[" * 100_000, b"9" * 10_000, b'"\xff"', b"{" * 100_000,
        {"type": "facts", "arrays": [], **FACTS, "count": True},
        {"type": "facts", "arrays": [], **FACTS, "name": "\ud800"},
        {"type": "facts", **FACTS}, {"type": "facts", "arrays": {}, **FACTS}, {"type": "other", "arrays": []},
        {"type": "arrays", "arrays": []}, {"type": ["facts"], "arrays": [], **FACTS},
    ],
)  # fmt: skip
def test_json_that_is_no_message_is_refused(body):
    with pytest.raises(Nonsense):
        receive(framed(body))


def test_what_nobody_asked_for_is_left_out():
    assert receive(framed({"type": "facts", "arrays": [], **FACTS, "more": "\ud800"})) == (
        {"type": "facts", **FACTS},
        {},
    )


@pytest.mark.parametrize("n", [1 << 20, 1 << 31])
def test_a_giant_is_refused_before_it_is_allocated(n, monkeypatch):
    monkeypatch.setattr(wire.np, "empty", lambda *_: pytest.fail("memory was set aside"))
    described = [["a", "uint8", [n, 1, 3]], ["b", "float64", [n]], ["c", "uint8", [2]]]
    with pytest.raises(Nonsense, match="bytes"):
        receive(framed({"type": "arrays", "arrays": described}, 3))


def test_the_bound_is_of_the_whole_message():
    stream = io.BytesIO()
    wire.send(
        stream, {"type": "arrays"}, {"a": np.zeros((2, 1, 3), np.uint8), "b": np.zeros(2), "c": np.zeros(2, np.uint8)}
    )
    size = len(stream.getvalue()) - wire._HEADER.size
    assert receive(stream.getvalue(), size)
    with pytest.raises(Nonsense, match=f"{size} bytes"):
        receive(stream.getvalue(), size - 1)


@pytest.mark.parametrize("length", [0, 5, 8, 20, -1, -20])
def test_a_stream_that_ends_inside_a_message_says_so(length):
    whole = framed({"type": "facts", "arrays": [], **FACTS}) + framed({"type": "facts", "arrays": [], **FACTS})
    if length == 0:
        assert receive(whole[:length]) is None
        return
    stream = io.BytesIO(whole[:length])
    with pytest.raises(wire.CutOff):
        while wire.receive(stream, KINDS):
            pass


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (Number(), [0, -1, 1e300, 3], [True, None, "1", [1], math.nan, math.inf, -math.inf, 10**400]),
        (Number(0.0, 1.0), [0, 1, 0.5], [-0.1, 2, 1.0000001]),
        (Integer(0, 10), [0, 10], [True, False, 1.0, "1", None, -1, 11, 10**5000]),
        (Text(3), ["", "abc", "äöü", "🎞🎞🎞"], [1, None, b"a", "abcd", "\ud800", "\udfff"]),
        (Text(9, "[a-f0-9]{4}"), ["abcd", "0123"], ["abcd\n", "ABCD", "", "abcd1"]),
        (Maybe(Text(3)), [None, "a"], [1, "abcd"]),
        (List(2), [[], [1, {}]], [None, {}, "ab", (1,), [1, 2, 3]]),
        (First(Integer(0, 3)), [[1], [0, "x"]], [[], ["x"], 1, {"0": 1}]),
        (Record({"a": Integer(0, 3), "b": Maybe(Text(1))}), [{"a": 1, "b": None}], [None, [], {}, {"b": ""}]),
    ],
)  # fmt: skip
def test_a_field_takes_what_it_says(field, good, bad):
    for value in good:
        taken = field.check(value, "it")
        assert taken == (value[0] if isinstance(field, First) else value)
        json.dumps(taken, ensure_ascii=False).encode()
    for value in bad:
        with pytest.raises(Nonsense, match=r"^it"):
            field.check(value, "it")


@given(st.binary(max_size=50) | st.text(max_size=20).map(lambda text: json.dumps(text).encode()))
def test_json_is_read_or_refused(data):
    try:
        json.dumps(load_json(data))
    except Nonsense as refusal:
        str(refusal).encode()


def test_text_can_be_repaired():
    assert Text(9, repair=True).check("a\ud800b", "it") == "a?b"
