"""torchvision imports beside any build of torch, and a worker keeps to one thread; each in a fresh process."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from reelmill.compat import installed_version


def run(code):
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_torchvision_imports_and_builds_models():
    code = (
        "from reelmill.compat import torchvision; vision = torchvision(); assert torchvision() is vision;"
        "from torchvision.models.optical_flow import raft_large; from torchvision.transforms import v2;"
        "print(len(raft_large(weights=None).state_dict()))"
    )
    assert run(code) == ["169"]


@pytest.mark.parametrize("before", ["import os", "import torch"])
def test_one_thread_binds_torch_opencv_and_what_is_loaded_later(before):
    code = (
        f"{before}; from reelmill.compat import one_thread; one_thread(); import cv2, os, torch;"
        "print(torch.get_num_threads(), cv2.getNumThreads(), os.environ['OMP_NUM_THREADS'])"
    )
    assert run(code) == ["1", "1", "1"]


def test_one_thread_does_not_load_torch():
    assert run("import sys; from reelmill.compat import one_thread; one_thread(); print('torch' in sys.modules)") == [
        "False"
    ]


def test_the_build_of_a_package_for_gpus_is_that_package(tmp_path, monkeypatch):
    """With onnxruntime-gpu in the place of onnxruntime a run knows its version."""
    assert installed_version("onnxruntime") == version("onnxruntime")
    described = tmp_path / "onnxruntime_gpu-1.30.2.dist-info" / "METADATA"
    described.parent.mkdir()
    described.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.30.2\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert installed_version("onnxruntime") == "1.30.2"
    with pytest.raises(PackageNotFoundError):
        installed_version("torch")
