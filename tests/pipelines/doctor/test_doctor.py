"""`reelmill doctor`: exit code 0 on this machine, 1 where work would fail."""

import json
import os
import subprocess
import sys

from command_line import CommandLine

from reelmill.pipelines.doctor.checks import text_on_gpu


def doctor(**environment):
    command = [sys.executable, "-m", "reelmill", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}


def test_this_machine_decodes_and_knows_its_versions():
    code, checks = doctor(OMP_NUM_THREADS="1")
    assert checks["decoding"]["state"] == "ok" and "1.00 s decoded" in checks["decoding"]["message"]
    wanted = {"python", "torch", "torchvision", "ray", "duckdb", "cores", "gpu", "disk, here", "weights raft-things"}
    assert wanted <= set(checks)
    assert checks["threads"]["state"] == "ok"
    assert code == (1 if any(check["state"] == "bad" for check in checks.values()) else 0)


def test_what_is_missing_or_broken_is_bad_and_says_what_to_do(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('built for another torch')")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    code, checks = doctor(REELMILL_CACHE=str(tmp_path / "empty"), PYTHONPATH=paths)
    assert code == 1
    assert checks["torchvision"]["state"] == "bad"
    assert "built for another torch; install the torchvision that belongs" in checks["torchvision"]["message"]
    assert checks["weights raft-things"]["state"] == "bad"
    assert "reelmill models pull raft-things" in checks["weights raft-things"]["message"]
    assert checks["weights clip-vit-l14"]["state"] == "note", "what is optional fails nothing"


def test_people_read_lines(monkeypatch, capsys):
    done = CommandLine(monkeypatch, capsys)("doctor")
    assert "decoding" in done.out
    assert done.out.splitlines()[-1].startswith(("all in order", "not in order"))


def test_it_says_whether_text_is_looked_for_on_the_gpu():
    assert text_on_gpu(["CUDAExecutionProvider", "CPUExecutionProvider"]).state == "ok"
    found = text_on_gpu(["AzureExecutionProvider", "CPUExecutionProvider"])
    assert found.state == "note" and "replace it by onnxruntime-gpu" in found.message
