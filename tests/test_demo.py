"""The pieces of `make demo`, on a few pictures and for a few steps."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WORLD = ROOT / "examples/landscapes"
DRAW = runpy.run_path(str(WORLD / "draw.py"))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capsys)


def recipe_lines():
    """The commands of the target `demo` as make runs them, but for `serve`."""
    (target,) = re.findall(r"^demo: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    lines = [
        line.strip().rpartition("|| ")[2].replace("$(BIN)/", "") for line in target.splitlines() if "@echo" not in line
    ]
    assert [shlex.split(line)[:2] for line in lines[:-1]] == [
        ["python", "examples/landscapes/draw.py"],
        ["reelmill", "curate"],
        ["reelmill", "train"],
        ["reelmill", "generate"],
        ["python", "examples/landscapes/sheet.py"],
    ]
    assert lines[-1] == "$(if $(PAGE),reelmill serve runs/landscapes)"
    return [shlex.split(line) for line in lines[:-1]]


def test_the_demo_goes_from_pictures_to_a_sheet_of_drawn_ones(command, monkeypatch, tmp_path):
    few = {
        "draw.py": ["--pictures", "12"],
        "curate": ["--executor", "inline"],
        "train": [
            "--set",
            "steps=3",
            "--set",
            "validate_every=3",
            "--set",
            "model.hidden=64",
            "--set",
            "data.heldout=0.2",
        ],
    }
    for program, *given in recipe_lines():
        arguments = [str(ROOT / one) if one.startswith("examples/") else one for one in given]
        if program == "python":
            script = Path(arguments[0])
            files = [
                str(file) for one in arguments[1:] for file in ([one] if "*" not in one else sorted(tmp_path.glob(one)))
            ]
            monkeypatch.setattr(sys, "argv", [script.name, *files, *few.get(script.name, [])])
            runpy.run_path(str(script), run_name="__main__")
        else:
            ended = command(*arguments, *few.get(arguments[0], []))
            assert ended.code == 0, ended.err
    prompts = (tmp_path / "build/landscapes/new.txt").read_text(encoding="utf-8").splitlines()
    assert len(prompts) == len([*(tmp_path / "runs/landscapes/new").glob("*.png")]) == 12
    with Image.open(tmp_path / "runs/landscapes/new.png") as sheet:
        assert sheet.size == (4 * 192, 3 * (192 + 58))
        assert np.asarray(sheet).std() > 10


def test_what_is_new_is_never_shown_and_its_parts_are():
    shown = [scene for scene in DRAW["SCENES"] if scene not in DRAW["NEW"]]
    assert len({*DRAW["NEW"]}) == 12
    for left, right, land, light in DRAW["NEW"]:
        assert any((a, c, d) == (left, land, light) for a, _, c, d in shown)
        assert any((b, c, d) == (right, land, light) for _, b, c, d in shown)
