"""A decoder that was taken over: it writes what its item holds, byte for byte, where messages are expected."""

import json
import os
import stat
import struct

from reelmill.curation.expanders import text

MARK = b"taken over:"

# A sound item with one sample, as a child says it, and the bytes of the sample's arrays.
SHAPES = [
    ["images", "uint8", [1, 2, 2, 3]],
    ["times", "float64", [1]],
    ["runs", "uint8", [0, 3, 1, 1]],
    ["details", "uint8", [1, 9, 2, 2]],
]
ARRAYS = (bytes(12), bytes(8), b"", bytes(36))
SAMPLE = {"type": "sample", "start_s": 0.0, "end_s": 1.0, "width": 2, "height": 2, "fps": 25.0, "arrays": SHAPES}
ITEM = {
    "type": "item", "width": 2, "height": 2, "fps": 25.0, "duration_s": 1.0, "codec": "h264", "sha256": "0" * 64,
    "arrays": [],
}  # fmt: skip


def expand(source, options):
    """An item that begins with MARK is what the child says; any other is expanded as a text."""
    with source.open() as stream:
        data = stream.read()
    if data.startswith(MARK):
        pipe = next(file for file in range(3, 64) if _is_pipe(file))
        view = memoryview(data)[len(MARK) :]
        while view:
            view = view[os.write(pipe, view) :]
        os._exit(0)
    yield from text.expand(source, options)


def message(body, *arrays, count=None):
    """The bytes of one message; `body` is JSON already or what becomes JSON."""
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack(">II", len(said), len(arrays) if count is None else count) + said + b"".join(arrays)


def _is_pipe(file):
    try:
        return stat.S_ISFIFO(os.fstat(file).st_mode)
    except OSError:
        return False
