"""TFRecord files of `tf.train.Example`, without TensorFlow. The files are untrusted.

A record is its length (8 bytes, little endian), the checksum of that, its bytes, their checksum; a checksum is a masked
CRC-32C. An Example is a map from names to lists of bytes, floats or integers (tensorflow/core/example/feature.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache, lru_cache
from math import isqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelmill.errors import DataError

Values = list[bytes] | npt.NDArray[np.float32] | npt.NDArray[np.int64]
LARGEST = 2 << 30
"""Bytes that a record may have."""
_POLYNOMIAL = 0x82F63B78
_SHORT = 4096


def records(path: Path) -> Iterator[bytes | None]:
    """The records of a file; None for one whose bytes do not agree with their checksum.

    DataError where the lengths are wrong, and nothing behind can be found, or the file ends within a record.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while head := file.read(12):
            where = f"{path}, byte {file.tell() - len(head):,}"
            if len(head) < 12 or masked(crc32c(head[:8])) != struct.unpack("<I", head[8:])[0]:
                raise DataError(f"{where}: the length of a record is damaged; download the file anew")
            (length,) = struct.unpack("<Q", head[:8])
            if length > min(LARGEST, size):
                raise DataError(f"{where}: a record of {length:,} bytes, in a file of {size:,}; at most {LARGEST:,}")
            data, check = file.read(length), file.read(4)
            if len(check) < 4:
                raise DataError(f"{where}: the file ends within a record; download it anew")
            yield data if masked(crc32c(data)) == struct.unpack("<I", check)[0] else None


def example(data: bytes) -> dict[str, Values]:
    """The features of an Example by their names. ValueError for bytes that are none."""
    found: dict[str, Values] = {}
    for number, features in _fields(memoryview(data)):
        if number != 1 or not isinstance(features, memoryview):
            continue
        for _, entry in _fields(features):
            pair = dict(_fields(_bytes(entry)))
            found[bytes(_bytes(pair.get(1, memoryview(b"")))).decode()] = _values(_bytes(pair.get(2, memoryview(b""))))
    return found


def _values(feature: memoryview) -> Values:
    for kind, values in _fields(feature):
        parts = [part for number, part in _fields(_bytes(values)) if number == 1]
        if kind == 1:
            return [bytes(_bytes(part)) for part in parts]
        if kind == 2:  # packed, or one after another
            floats = b"".join(struct.pack("<I", part) if isinstance(part, int) else part for part in parts)
            return np.frombuffer(floats, dtype="<f4")
        if kind == 3:
            numbers = [value for part in parts for value in ([part] if isinstance(part, int) else _varints(part))]
            return np.array(numbers, dtype=np.uint64).astype(np.int64)
    return []


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field of a message of protocol buffers."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no Example: a field of kind {kind}")
        if length > len(message) - at:
            raise ValueError("no Example: a field is longer than what it lies in")
        part = message[at : at + length]
        yield tag >> 3, part if kind == 2 else int.from_bytes(part, "little")
        at += length


def _bytes(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no Example: a number stands where a message does")
    return value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("no Example: it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise ValueError("no Example: a number of more than 64 bits")


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def masked(crc: int) -> int:
    """The checksum as TFRecord stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli). Long data is cut into pieces of one length whose registers are worked out side by side:
    the register after two pieces is that of the first, moved on by as many zeros, xor that of the second."""
    table = _table()
    array = np.frombuffer(data, dtype=np.uint8)
    lanes = isqrt(len(array)) if len(array) >= _SHORT else 0
    length = len(array) // lanes if lanes else 0
    register = 0xFFFFFFFF
    for byte in array[: len(array) - lanes * length].tolist():
        register = int(table[(register ^ byte) & 255]) ^ (register >> 8)
    if lanes:
        pieces = np.ascontiguousarray(array[len(array) - lanes * length :].reshape(lanes, length).T)
        registers = np.zeros(lanes, dtype=np.uint32)
        for column in pieces:
            registers = table[(registers ^ column) & 255] ^ (registers >> 8)
        zeros = _zeros(length)
        for own in registers.tolist():
            register = _applied(zeros, register) ^ own
    return register ^ 0xFFFFFFFF


@cache
def _table() -> npt.NDArray[np.uint32]:
    """uint32 [256]: the register after a byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


@lru_cache(maxsize=16)
def _zeros(count: int) -> tuple[int, ...]:
    """What `count` zero bytes make of each bit of the register."""
    once = tuple(int(_table()[1 << bit & 255]) ^ (1 << bit >> 8) for bit in range(32))
    done = tuple(1 << bit for bit in range(32))
    while count:
        if count & 1:
            done = tuple(_applied(once, bit) for bit in done)
        once = tuple(_applied(once, bit) for bit in once)
        count >>= 1
    return done


def _applied(images: tuple[int, ...], register: int) -> int:
    """The register after what has these images of its bits."""
    found, bit = 0, 0
    while register:
        if register & 1:
            found ^= images[bit]
        register >>= 1
        bit += 1
    return found
