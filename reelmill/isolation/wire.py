"""Messages between the engine and the untrusted child: JSON and raw arrays over a pipe, never pickle.

A message is `>II` (length of the JSON, number of arrays), the JSON, then the bytes of each array in order. The JSON has
`type`, the fields of that kind (`messages.py`), and `arrays`: `[name, dtype, shape]` for each. All of it is checked
against what the kind allows before an array is read or memory is set aside for it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from reelmill.isolation.messages import MAX_SECONDS, ArraySpec, Kinds
from reelmill.isolation.untrusted import (
    MAX_JSON_BYTES,
    MAX_MESSAGE_BYTES,
    Integer,
    List,
    Nonsense,
    Record,
    Text,
    load_json,
)

Array = npt.NDArray[Any]
Message = tuple[dict[str, Any], dict[str, Array]]
_HEADER = struct.Struct(">II")
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("uint8", "int16", "float64")}
_ENVELOPE = Record({"type": Text(40), "arrays": List(8)})
_SIDE = Integer(0, 1 << 31)


class CutOff(Nonsense):
    """The stream ended inside a message: the other side is gone."""


class Reader(Protocol):
    """What `receive` needs of a stream."""

    def read(self, length: int, /) -> bytes:
        """Up to `length` bytes; fewer only at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of `buffer`; 0 at the end."""


def tick(at_s: float, of_s: float | None) -> Message:
    """A heartbeat that says how far in the item the job is, and the item's own length where that is possible."""
    known = {"at_s": at_s, "of_s": of_s}
    return {"type": "tick", **{name: s for name, s in known.items() if s is not None and 0 <= s <= MAX_SECONDS}}, {}


def send(stream: BinaryIO, body: dict[str, Any], arrays: dict[str, Array] | None = None) -> None:
    """Write one message and flush."""
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    described = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    text = json.dumps({**body, "arrays": described}, ensure_ascii=True).encode()
    stream.write(_HEADER.pack(len(text), len(arrays)))
    stream.write(text)
    for array in arrays.values():
        stream.write(memoryview(array.data).cast("B") if array.size else b"")
    stream.flush()


def receive(stream: Reader, kinds: Kinds, most_bytes: int = MAX_MESSAGE_BYTES) -> Message | None:
    """Read one message of one of `kinds`; None at the end of the stream.

    The body has `type` and the kind's fields, the arrays those of the kind. Raises Nonsense for anything else, and for
    a message of more than `most_bytes`.
    """
    header = stream.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise CutOff("the stream ended inside a header")
    length, count = _HEADER.unpack(header)
    if length > MAX_JSON_BYTES:
        raise Nonsense(f"a message's JSON has {length} bytes; {MAX_JSON_BYTES} are allowed")
    data = stream.read(length)
    if len(data) < length:
        raise CutOff("the stream ended inside a message")
    said = load_json(data, "message")
    envelope = _ENVELOPE.check(said, "message")
    kind = kinds.get(envelope["type"])
    if kind is None:
        raise Nonsense(f"message.type is {envelope['type']!a}; {', '.join(kinds)} are allowed")
    body = {"type": envelope["type"], **Record(kind.fields).check(said, "message")}
    shapes = _shapes(envelope["arrays"], kind.arrays)
    size = length + sum(_bytes(kind.arrays[name], shape) for name, shape in shapes.items())
    if count != len(shapes) or size > most_bytes:
        raise Nonsense(f"a message of {count} arrays and {size} bytes; {len(shapes)} and {most_bytes} are allowed")
    return body, {name: _array(stream, kind.arrays[name], name, shape) for name, shape in shapes.items()}


def _shapes(described: list[Any], specs: Mapping[str, ArraySpec]) -> dict[str, list[int]]:
    """Array to its shape, in the order in which they come."""
    shapes: dict[str, list[int]] = {}
    sides: dict[str, int] = {}
    for entry in described:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and entry[0] in specs):
            raise Nonsense(
                f"message.arrays: [name, dtype, shape] with a name of {', '.join(specs) or 'none'} is wanted"
            )
        name, dtype, shape = entry
        spec = specs[name]
        if name in shapes or dtype != spec.dtype or not isinstance(shape, list) or len(shape) != len(spec.shape):
            raise Nonsense(f"message.arrays.{name}: once, {spec.dtype} with {len(spec.shape)} sides, is allowed")
        shapes[name] = [_side(side, wanted, sides, name) for side, wanted in zip(shape, spec.shape, strict=True)]
    if missing := [name for name in specs if name not in shapes]:
        raise Nonsense(f"message.arrays.{missing[0]} is missing")
    return shapes


def _side(side: Any, wanted: int | str, sides: dict[str, int], name: str) -> int:
    """One side of an array, equal to the others of its name."""
    length: int = _SIDE.check(side, f"a side of {name}")
    allowed = wanted if isinstance(wanted, int) else sides.setdefault(wanted, length)
    if length != allowed:
        raise Nonsense(f"a side of {name} is {length}; {allowed} is allowed")
    return length


def _bytes(spec: ArraySpec, shape: list[int]) -> int:
    """Bytes of an array; one without entries counts by its other sides, which are bounded likewise."""
    return math.prod(max(side, 1) for side in shape) * _DTYPES[spec.dtype].itemsize


def _array(stream: Reader, spec: ArraySpec, name: str, shape: list[int]) -> Array:
    array: Array = np.empty(shape, _DTYPES[spec.dtype])
    if array.size:
        view = memoryview(array.data).cast("B")
        filled = 0
        while filled < array.nbytes:
            got = stream.readinto(view[filled:])
            if not got:
                raise CutOff("the stream ended inside an array")
            filled += got
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise Nonsense(f"{name} holds what is not finite")
    return array
