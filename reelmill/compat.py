"""What heavy packages need of those who use them: a torchvision that imports, one thread, versions of any build."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# torch.library keeps a registration only as long as its Library object lives.
_fragments: list[torch.library.Library] = []
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


GPU_BUILDS = {"onnxruntime": "onnxruntime-gpu"}
"""Packages that a GPU has under another name."""


def installed_version(package: str) -> str:
    """The version of an installed package, or of its build for GPUs; PackageNotFoundError where there is neither."""
    try:
        return version(package)
    except PackageNotFoundError:
        if package not in GPU_BUILDS:
            raise
        return version(GPU_BUILDS[package])


@cache
def torchvision() -> ModuleType:
    """Import and return torchvision, also where its native operators do not load.

    The torchvision wheel of the package index is a CUDA build. Beside a CPU build of torch its C++ operators do not
    load and the import fails on the missing schema of `torchvision::nms`. Declaring the two schemas that are looked up
    at import time is enough for models and transforms; `torchvision.ops.nms` and `torchvision.io` stay unusable there.
    Call this before importing anything that imports torchvision (open_clip, timm, transformers).
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    import torch

    fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        fragment.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _fragments.append(fragment)
    return importlib.import_module("torchvision")


@contextmanager
def restored_threads() -> Iterator[None]:
    """Give this process back the numbers of threads that it had: around work that calls `one_thread` in a notebook."""
    variables = {name: os.environ.get(name) for name in THREADS}
    cv2, torch = sys.modules.get("cv2"), sys.modules.get("torch")
    before = cv2.getNumThreads() if cv2 else -1, torch.get_num_threads() if torch else os.cpu_count() or 1
    try:
        yield
    finally:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if cv2 := sys.modules.get("cv2"):
            cv2.setNumThreads(before[0])
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(before[1])


def one_thread() -> None:
    """Bind this process's OpenMP, torch and OpenCV to one thread each.

    Workers share few cores; spinning OpenMP threads ran the same work 5-20 times slower. The environment variables
    serve libraries that are loaded later (torch, which takes 1.5 CPU-seconds to load and not every worker needs;
    onnxruntime, BLAS) and child processes.
    """
    for variable in THREADS:
        os.environ[variable] = "1"
    import cv2

    cv2.setNumThreads(1)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
