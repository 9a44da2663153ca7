"""Archives for tests: zips and compressed tars of (name, bytes)."""

import atexit
import bz2
import functools
import gzip
import io
import lzma
import tarfile
import zipfile

from backports import zstd

from reelmill.isolation.parent import Child, IsolationConfig

COMPRESS = {"gz": gzip.compress, "zst": zstd.compress, "bz2": bz2.compress, "xz": lzma.compress}


def tar_bytes(members, format=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path, members, compression="gz"):
    path.write_bytes(COMPRESS[compression](tar_bytes(members)))
    return path


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def contents(items):
    """uri to the bytes of each item that has no problem, unpacked in the child."""
    found = {}
    for item in items:
        if item.problem is None:
            with _child().opened(item.source).open() as stream:
                found[item.uri] = stream.read()
    return found


@functools.cache
def _child():
    child = Child(IsolationConfig())
    atexit.register(child.close)
    return child
