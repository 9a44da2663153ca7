"""torchvision imports beside any build of torch, and a worker keeps to one thread; each in a fresh process."""

import subprocess
import sys


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_torchvision_imports_and_builds_models():
    code = (
        "from reelmill.compat import torchvision; vision = torchvision(); assert torchvision() is vision;"
        "from torchvision.models.optical_flow import raft_large; from torchvision.transforms import v2;"
        "print(len(raft_large(weights=None).state_dict()))"
    )
    assert run(code) == ["169"]


def test_one_thread_binds_torch_opencv_and_what_is_loaded_later():
    code = (
        "from reelmill.compat import one_thread; one_thread(); import cv2, os, torch;"
        "print(torch.get_num_threads(), cv2.getNumThreads(), os.environ['OMP_NUM_THREADS'])"
    )
    assert run(code) == ["1", "1", "1"]
