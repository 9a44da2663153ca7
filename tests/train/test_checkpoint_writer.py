"""The files of a checkpoint are those of torch's own writer, and are written from where the tensors lie."""

import subprocess
import sys
import warnings

import torch
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from reelmill.train.checkpoint import load_tensors
from reelmill.train.checkpoint_writer import CheckpointWriter

MEMORY = """
import resource, sys, warnings
from pathlib import Path
import torch
from torch.distributed.checkpoint import state_dict_saver
from reelmill.train.checkpoint_writer import CheckpointWriter

warnings.simplefilter("ignore")
def save(folder, count):
    tensors = {f"weight.{number}": torch.ones(16, 2**18) for number in range(count)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state_dict_saver.save(tensors, storage_writer=CheckpointWriter(Path(sys.argv[1]) / folder), no_dist=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

save("first", 1)  # what is imported and allocated once
print(save("second", 12))
"""


def save(tensors, writer):
    with warnings.catch_warnings(action="ignore"):
        state_dict_saver.save(tensors, storage_writer=writer, no_dist=True)


def test_the_files_are_those_of_torch_s_writer(tmp_path):
    wide = torch.randn(5, 8)
    tensors = {
        "part": wide[1:3], "step": torch.tensor(3.0), "half": torch.randn(3, 2).bfloat16(),
        "ids": torch.arange(7), "flags": torch.tensor([True, False]),
    }  # fmt: skip
    save(tensors, CheckpointWriter(tmp_path / "ours"))
    save(tensors, HuggingFaceStorageWriter(str(tmp_path / "theirs"), save_distributed=True))
    ours, theirs = (sorted((tmp_path / name).iterdir()) for name in ("ours", "theirs"))
    assert [path.name for path in ours] == [path.name for path in theirs]
    for one, other in zip(ours, theirs, strict=True):
        read = [path.read_bytes() for path in (one, other)]
        # The order of the entries in a header's metadata is not fixed; it and all the rest are of one size.
        assert len(read[0]) == len(read[1])
        begin = 8 + int.from_bytes(read[0][:8], "little")
        assert read[0][begin:] == read[1][begin:]
    again = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    load_tensors(again, tmp_path / "ours", no_dist=True)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_writing_takes_no_memory_beside_the_tensors(tmp_path):
    """192 MiB of tensors; torch's writer takes twice as much more."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=100, check=True
    )
    assert int(done.stdout) < 32 * 1024  # KiB
