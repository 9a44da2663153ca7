"""Messages between the engine and the untrusted child: JSON and raw arrays over a pipe, never pickle.

A message is `>II` (length of the JSON, number of arrays), the JSON, then the bytes of each array in order; the JSON's
key `arrays` holds `[name, dtype, shape]` for each. Lengths are bounded, so that a child that went wild cannot fill
memory.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Message = tuple[dict[str, Any], dict[str, Array]]
_HEADER = struct.Struct(">II")
_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "float64": np.dtype(np.float64)}
MAX_JSON = 16 * 1024 * 1024
MAX_ARRAYS = 8
MAX_ARRAY_BYTES = 2 * 1024**3


class Reader(Protocol):
    """What `receive` needs of a stream."""

    def read(self, length: int, /) -> bytes:
        """Up to `length` bytes; fewer only at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of `buffer`; 0 at the end."""


class WireError(Exception):
    """The other side sent something that is not a message."""


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


def receive(stream: Reader) -> Message | None:
    """Read one message; None at end of stream. Raises WireError for anything malformed or over the bounds."""
    header = stream.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise WireError("the stream ended inside a header")
    length, count = _HEADER.unpack(header)
    if length > MAX_JSON or count > MAX_ARRAYS:
        raise WireError(f"a message of {length} bytes and {count} arrays is over the bounds")
    try:
        body = json.loads(_exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise WireError(f"a message is no JSON: {error}") from None
    described = body.pop("arrays", None) if isinstance(body, dict) else None
    if not isinstance(described, list) or len(described) != count:
        raise WireError("the arrays are not described")
    if not all(isinstance(entry, list) and len(entry) == 3 for entry in described):
        raise WireError("an array is not described by name, type and shape")
    return body, {str(name): _array(stream, str(dtype), shape) for name, dtype, shape in described}


def _array(stream: Reader, dtype: str, shape: Any) -> Array:
    sizes = isinstance(shape, list) and len(shape) <= 4 and all(isinstance(n, int) and n >= 0 for n in shape)
    if dtype not in _DTYPES or not sizes:
        raise WireError(f"an array of type {dtype} and shape {shape} is not allowed")
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if size > MAX_ARRAY_BYTES:
        raise WireError(f"an array of {size} bytes is over the bound of {MAX_ARRAY_BYTES}")
    array: Array = np.empty(shape, _DTYPES[dtype])
    if size:
        view = memoryview(array.data).cast("B")
        filled = 0
        while filled < size:
            got = stream.readinto(view[filled:])
            if not got:
                raise WireError("the stream ended inside an array")
            filled += got
    return array


def _exactly(stream: Reader, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise WireError("the stream ended inside a message")
    return data
