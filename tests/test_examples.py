"""The examples run, as docs/python.md shows them."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def out(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("examples"))


@pytest.fixture
def run(monkeypatch, capsys):
    def run(name, *arguments):
        """What the example prints, run in this process."""
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_the_page_shows_the_examples_whole():
    shown = dict(re.findall(r"`python examples/(\w+\.py)[^`]*`\n\n```python\n(.*?)```", PAGE, re.DOTALL))
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}
    assert shown == {name: text.partition('"""\n\n')[2] for name, text in files.items()}  # but for the docstring
    assert PAGE.count("```python") == len(shown)


def test_curate_folder(run, out, tmp_path):
    lines = run("curate_folder.py", out.parent / "dump", tmp_path / "out").splitlines()
    assert "2 of 11 samples are kept" in lines
    assert "'uri': 'text0.txt'" in lines[-2] + lines[-1]


def test_read_tables(run, out):
    printed = run("read_tables.py", out)
    assert "{'kind': 'text', 'quality_score_mean': None}" in printed
    assert re.search(r"video +│ +4 +│ +764", printed)
    assert re.search(r"rejected +exact_duplicate +2", printed)


def test_ask(run, out):
    first, second, third = run("ask.py", out).splitlines()
    assert first == (
        "[{'status': 'kept', 'rule': None, 'samples': 9}, "
        "{'status': 'rejected', 'rule': 'exact_duplicate', 'samples': 2}]"
    )
    assert second == "{0.01: 6, 0.02: 6, 0.04: 6}"
    assert third == "the recipe keeps motion_score from 0.0 to 0.5"


def test_decode_tokens(run, out, tmp_path):
    assert run("decode_tokens.py", out, tmp_path / "pair.png").startswith("video, codes (2, 7, 9), caption 'A")
    pair = np.asarray(Image.open(tmp_path / "pair.png")).astype(float)
    assert pair.shape == (56, 144, 3)
    original, decoded = pair[:, :72], pair[:, 72:]
    assert np.corrcoef(original.ravel(), decoded.ravel())[0, 1] > 0.6  # two pictures of the dump: about 0


def test_score_frames(run):
    clip, image, own = map(eval, run("score_frames.py").splitlines())
    assert clip["quality_score"] == image["quality_score"] == 1.0
    # it moves 4 pixels of 120 a frame, 12 frames from one sampled frame to the next: the noise repeats after 200
    assert clip["motion_jitter"] == pytest.approx(0.0, abs=1e-3)
    assert image["colourfulness"] == 0.0
    assert 120 < own["brightness"] < 135


def test_training_loop(run, out):
    losses = [float(line.rsplit(" ", 1)[1]) for line in run("training_loop.py", out).splitlines()]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 2  # nats


def test_export_clips(run, out, tmp_path):
    first, *lines = [line for line in run("export_clips.py", out, tmp_path).splitlines() if ".tar" not in line]
    assert first == "Exported(samples=4, whole=0, known=0, left_out=0)"
    assert len(lines) == 4
    assert all(re.search(r"\.json 0\.\d+ seconds \d\.\d\d to \d\.\d\d of its file$", line) for line in lines)


def test_load_datasets(out, tmp_path):
    command = [sys.executable, str(ROOT / "examples/load_datasets.py"), str(out)]
    home = {**os.environ, "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, env=home, check=True, capture_output=True, text=True)
    assert "num_rows: 9" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("[462, ")


def test_the_readme_s_program_runs(out, tmp_path, monkeypatch):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sample").symlink_to(out)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(program, "README.md", "exec"), names)
    assert names["frames"].dtype == np.uint8
    assert names["frames"].ndim == 4
