"""bench/gpu/first.sh in miniature: each part runs to its end, so that the first minutes on a GPU are not lost on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("machine", "tests", "attention", "lengths", "cache", "loss", "step_tiny", "generate")


@pytest.mark.slow
def test_every_part_runs(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "DEVICE": "cpu", "PYTHON": sys.executable}
    script = ["bash", str(ROOT / "bench/gpu/first.sh"), "500"]
    subprocess.run(script, env=environment, check=True, timeout=600, cwd=tmp_path, capture_output=True)
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert [line.partition(" after")[0] for line in lines] == [f"{part}: exit 0" for part in PARTS]
    assert "Triton" in (tmp_path / "loss.txt").read_text()
    assert "test_fused_loss.py: 1" in (tmp_path / "tests.txt").read_text()
