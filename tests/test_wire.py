"""Messages survive the pipe; anything else is refused."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reelmill.isolation import wire

arrays = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5, min_side=0))
    | hnp.arrays(np.float64, hnp.array_shapes(max_dims=1), elements=st.floats(allow_nan=False)),
    max_size=3,
)


@given(st.dictionaries(st.text(max_size=5).filter(lambda k: k != "arrays"), st.text() | st.integers()), arrays)
def test_round_trip(body, sent):
    stream = io.BytesIO()
    wire.send(stream, body, sent)
    stream.seek(0)
    received, got = wire.receive(stream)
    assert received == body
    assert got.keys() == sent.keys()
    assert all(np.array_equal(got[name], sent[name]) and got[name].dtype == sent[name].dtype for name in sent)
    assert wire.receive(stream) is None


@given(st.binary(min_size=1, max_size=200))
def test_nonsense_is_refused_not_believed(data):
    with pytest.raises(wire.WireError):
        wire.receive(io.BytesIO(data))


@pytest.mark.parametrize(
    "body",
    [
        b"null", b"[]", b"3", b"{}", b'{"arrays": {}}', b'{"arrays": [1]}', b'{"arrays": [["a", "uint8"]]}',
        b'{"arrays": [["a", "object", [1]]]}', b'{"arrays": [["a", ["uint8"], [1]]]}',
        b'{"arrays": [["a", "uint8", 1]]}',
        b'{"arrays": [["a", "uint8", [-1]]]}', b'{"arrays": [["a", "uint8", ["1"]]]}',
        b'{"arrays": [["a", "uint8", [9]]]}',
        b"[" * 100_000, b"9" * 10_000, b'"\xff"',
    ],
)  # fmt: skip
def test_json_that_is_no_message_is_refused(body):
    with pytest.raises(wire.WireError):
        wire.receive(io.BytesIO(wire._HEADER.pack(len(body), 1) + body))


def test_a_giant_array_is_refused_before_it_is_allocated():
    stream = io.BytesIO()
    body = b'{"arrays": [["images", "uint8", [100000, 100000, 100, 3]]]}'
    stream.write(wire._HEADER.pack(len(body), 1) + body)
    stream.seek(0)
    with pytest.raises(wire.WireError, match="over the bound"):
        wire.receive(stream)
