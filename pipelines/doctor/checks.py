"""`reelmill doctor`: what this machine has, and what of it would make work fail."""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

import reelmill
from reelmill import weights
from reelmill.compat import installed_version
from reelmill.curation.scorers.ppocr import CUDA
from reelmill.errors import brief
from reelmill.files import write_atomically
from reelmill.isolation.confinement import available
from reelmill.isolation.messages import FLOOR
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.isolation.probe import PROBE, PROBE_JOB
from reelmill.media.source import Source
from reelmill.terminal import say

State = Literal["ok", "note", "bad"]
PACKAGES = ("torch", "ray", "duckdb", "pyarrow", "av", "opencv-python-headless", "onnxruntime", "rapidocr", "numpy")
LEAST_DISK = 2 * 10**9
DECODE_JOB = "reelmill.curation.clips:decode_only"
LIMITS = {"max_bytes": 10**8, "max_duration_s": 60.0}


@dataclass(frozen=True)
class Check:
    """One line: `bad` makes work fail, `note` is worth knowing."""

    name: str
    state: State
    message: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine() -> list[Check]:
    """Every check, in order; none of them writes outside the cache or reaches the network."""
    parts: tuple[Callable[[], Iterator[Check]], ...] = (
        _versions,
        _processor,
        _torchvision,
        _gpu,
        _ray,
        _disk,
        _decoding,
        _confinement,
        _weights,
    )
    return [check for part in parts for check in part()]


def print_checks(checks: list[Check], console: Console) -> None:
    """A line per check, and a summary of what to do."""
    marks = {"ok": ("ok  ", "green"), "note": ("note", "yellow"), "bad": ("BAD ", "bold red")}
    for check in checks:
        mark, style = marks[check.state]
        say(console, f"{check.name:<22} {check.message}", head=mark, style=style)
    bad = [check.name for check in checks if check.state == "bad"]
    say(console, f"not in order: {', '.join(bad)}" if bad else "all in order")


def _versions() -> Iterator[Check]:
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    message = f"{platform.python_version()}, {platform.platform()}"
    yield Check(
        "python", "ok" if supported else "bad", message if supported else f"{message}; 3.11 to 3.13 are supported"
    )
    yield Check("reelmill", "ok", reelmill.__version__)
    for name in PACKAGES:
        try:
            yield Check(name, "ok", installed_version(name))
        except PackageNotFoundError:
            yield Check(name, "bad", "not installed; run `pip install -e .` again")


def _processor() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cores", "ok", f"{cores} for this process")
    threads = os.environ.get("OMP_NUM_THREADS")
    message = f"OMP_NUM_THREADS is {threads or 'not set'}"
    good = threads == "1"
    yield Check("threads", "ok" if good else "note", message if good else f"{message}; workers set it to 1 themselves")


def _torchvision() -> Iterator[Check]:
    """RAFT and the perceptual losses come from it; a wheel that was built for another torch does not import."""
    from reelmill.compat import torchvision

    try:
        found = torchvision()
    except (ImportError, OSError, RuntimeError) as error:
        advice = "install the torchvision that belongs to this torch"
        yield Check("torchvision", "bad", f"does not import beside torch {version('torch')}: {brief(error)}; {advice}")
        return
    yield Check("torchvision", "ok", found.__version__)


def _gpu() -> Iterator[Check]:
    import torch

    if not torch.cuda.is_available():
        yield Check("gpu", "note", "none that torch can use; everything runs on the CPU")
        return
    for n in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(n)
        yield Check("gpu", "ok", f"{facts.name}, {facts.total_memory / 1024**3:.0f} GiB, CUDA {torch.version.cuda}")

    if importlib.util.find_spec("onnxruntime"):
        from onnxruntime import get_available_providers

        yield text_on_gpu(get_available_providers())


def text_on_gpu(offered: Sequence[str]) -> Check:
    """Whether text is looked for on the GPU, by what the installed onnxruntime offers."""
    if CUDA in offered:
        return Check("text on a gpu", "ok", "onnxruntime has CUDA's provider")
    advice = "replace it by onnxruntime-gpu and text is looked for on the GPU"
    return Check("text on a gpu", "note", f"the installed onnxruntime has {', '.join(offered)}; {advice}")


def _ray() -> Iterator[Check]:
    address = os.environ.get("RAY_ADDRESS")
    yield Check("ray cluster", "ok", f"RAY_ADDRESS is {address}" if address else "none: a private local one starts")
    path = Path("/dev/shm")  # noqa: S108  (where Ray keeps its objects)
    if path.is_dir():
        free = shutil.disk_usage(path).free
        low = free < 256 * 1024**2
        message = f"{free / 1e9:.1f} GB free in {path}"
        yield Check("shared memory", "note" if low else "ok", f"{message}; Ray will spill to disk" if low else message)


def _disk() -> Iterator[Check]:
    for name, place in (("disk, here", Path.cwd()), ("disk, cache", _existing(weights.cache_root()))):
        free = shutil.disk_usage(place).free
        yield Check(name, "bad" if free < LEAST_DISK else "ok", f"{free / 1e9:.1f} GB free at {place}")


def _decoding() -> Iterator[Check]:
    """A video is written, and read back by the child that decodes untrusted bytes."""
    clip = weights.cache_root() / "doctor" / "clip.mp4"
    try:
        write_atomically(clip, _write_clip)
        source = Source(str(clip), 0, clip.stat().st_size)
        with Child(IsolationConfig(stall_s=30.0, item_s=60.0)) as child:
            found = [body for body, _ in child.run(DECODE_JOB, source, LIMITS, FLOOR)]
    except (ItemFailed, OSError) as error:
        yield Check("decoding", "bad", f"the decoding child failed: {error}")
        return
    length = found[-1]["media_s"]
    good = abs(length - 1.0) < 0.1
    yield Check("decoding", "ok" if good else "bad", f"H.264 in the child: {length:.2f} s decoded of 1.00 s")


def _confinement() -> Iterator[Check]:
    """What the child that decodes untrusted bytes could do if it were taken over; it is made to try."""
    layers = available()
    with tempfile.TemporaryDirectory(prefix="reelmill-doctor-") as name:
        file = Path(name) / "file"
        file.write_text("nobody's business")
        options = {"file": str(file), "folder": name, "parent": os.getpid()}
        try:
            with Child(IsolationConfig(stall_s=30.0, item_s=60.0)) as child:
                ((tried, _),) = child.run(PROBE_JOB, Source(str(file), 0, 1), options, PROBE)
        except (ItemFailed, OSError) as error:
            yield Check("confinement", "bad", f"the decoding child failed: {error}")
            return
    if not tried["could"]:
        yield Check("confinement", "ok", f"{layers}; the child can neither read, write, connect nor signal")
    elif layers.landlock and layers.seccomp:
        yield Check("confinement", "bad", f"{layers}; and yet the child could {tried['could']}")
    else:
        advice = "for dumps that you do not trust, work in a container without network"
        yield Check("confinement", "note", f"{layers} alone: the child could {tried['could']}; {advice}")


def _write_clip(path: Path) -> None:
    """One second of gray ramps, 160 x 120 at 24 frames/s."""
    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for n in range(24):
            ramp = (np.arange(160, dtype=np.int64) + 4 * n) % 256
            image = np.broadcast_to(ramp.astype(np.uint8)[None, :, None], (120, 160, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(buffer.getvalue())


def _weights() -> Iterator[Check]:
    states = weights.verify()
    for name, card in weights.cards().items():
        state = states[name]
        if state == "ok":
            yield Check(f"weights {name}", "ok", f"{card.bytes / 1e6:.1f} MB, {card.licence}")
            continue
        message = f"{state}; reelmill models pull {name}"
        needed = state == "damaged" or card.default
        yield Check(f"weights {name}", "bad" if needed else "note", message if needed else f"{message} (optional)")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())
