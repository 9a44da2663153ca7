"""`reelmill generate` and `ask` with a checkpoint of a few steps."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from command_line import CommandLine
from PIL import Image
from toy_run import reelmill, toy_run
from typer.testing import CliRunner

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import Clip
from reelmill.eval.generation.media_files import read_clip, read_settings, write_clip
from reelmill.pipelines.cli import app


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return toy_run(tmp_path_factory.mktemp("run")) / "checkpoints/step-000001"


def test_pictures_of_several_prompts_carry_their_settings(checkpoint, tmp_path):
    run = checkpoint.parent.parent
    asked = ("--ratio", "3:2", "--area", 24 * 16, "--count", 2, "--guidance", 2, "--negative", "bad", "--seed", 5)
    said = reelmill("generate", run, "--prompt", "a", "--prompt", "b", "--out", tmp_path / "x.png", *asked)
    files = sorted(tmp_path.glob("*.png"))
    assert [path.name for path in files] == [f"x-{n:03d}.png" for n in range(4)]
    assert all(f"{path}: 24x16 pixels" in said.replace("\n", "") for path in files)
    assert {Image.open(path).size for path in files} == {(24, 16)}
    assert len({path.read_bytes()[-400:] for path in files}) == 4
    expected = {"prompt": "b", "stream": 2, "seed": 5, "guidance": 2.0, "negative": "bad", "top_k": 2048}
    expected |= {"ratio": "3:2", "area": 384, "tokenizer": "reelmill-tok-xs"}
    assert read_settings(files[2]).items() >= {**expected, "checkpoint": str(checkpoint)}.items()


def test_guidance_of_a_model_that_never_drew_unprompted_is_warned_of(checkpoint, tmp_path, monkeypatch, capsys):
    command = CommandLine(monkeypatch, capsys)
    asked = ("generate", checkpoint, "--prompt", "a", "--area", 16 * 16, "--out", tmp_path / "x.png")
    assert "guidance" not in command(*asked).err
    ended = command(*asked, "--guidance", 2)
    assert ended.code == 0
    assert "guidance 2 leads away from what a model draws without a prompt" in " ".join(ended.err.split())
    dropping = toy_run(tmp_path / "dropping", caption_drop=0.5)
    assert "guidance" not in command(*asked[:1], dropping, *asked[2:], "--guidance", 2).err


def test_decoding_in_parallel_is_written_into_the_file_and_reproduces(checkpoint, tmp_path):
    asked = ("--prompt", "a", "--area", 24 * 24, "--decode", "exact-parallel", "--seed", 3)
    for name in ("x", "y"):
        reelmill("generate", checkpoint, *asked, "--out", tmp_path / f"{name}.png")
    assert read_settings(tmp_path / "x.png")["decode"] == "exact-parallel"
    assert np.array_equal(Image.open(tmp_path / "x.png"), Image.open(tmp_path / "y.png"))
    with pytest.raises(ConfigError, match="unknown way to decode 'paralel'; did you mean 'exact-parallel'"):
        reelmill("generate", checkpoint, "--prompt", "a", "--decode", "paralel")


def test_a_preset_says_what_no_option_does(checkpoint, tmp_path):
    (tmp_path / "prompts.txt").write_text("a mill\n\n  a boat \n")
    asked = ("--prompts", tmp_path / "prompts.txt", "--area", 16 * 16, "--preset", "emu3", "--top-k", 9)
    reelmill("generate", checkpoint, *asked, "--out", tmp_path / "x.png")
    settings = [read_settings(tmp_path / f"x-00{n}.png") for n in range(2)]
    assert [found["prompt"] for found in settings] == [
        f"a {what} masterpiece, film grained, best quality." for what in ("mill", "boat")
    ]
    assert all(found["top_k"] == 9 and found["guidance"] == 3 and "lowres" in found["negative"] for found in settings)
    with pytest.raises(ConfigError, match="no preset 'emu4'; did you mean 'emu3'"):
        reelmill("generate", checkpoint, "--prompt", "a", "--preset", "emu4")


def test_pages_hold_what_the_model_says_and_draws(checkpoint, tmp_path):
    image = tmp_path / "first.png"
    write_clip(Clip(np.full((1, 16, 16, 3), 90, dtype=np.uint8)), image, {})
    asked = ("--prompt", "go <on>", "--interleaved", "--max-tokens", 30, "--text-temperature", 0.5, "--guidance", 2)
    said = reelmill("generate", checkpoint, *asked, "--image", image, "--area", 256, "--out", tmp_path / "a.md")
    assert "a.md: 1 texts, 1 pictures" in said.replace("\n", "")
    page = (tmp_path / "a.md").read_text()
    assert page.startswith("![](<a-1.png>)\n\ngo &lt;on&gt;")
    assert read_settings(tmp_path / "a-1.png")["text"] == {"temperature": 0.5, "top_k": 0, "top_p": 1.0}
    reelmill("generate", checkpoint, *asked, "--count", 2, "--out", tmp_path / "b.html")
    one, other = ((tmp_path / f"b-00{n}.html").read_text() for n in range(2))
    assert one.startswith("<!doctype html>") and "<p>go &lt;on&gt;" in one
    assert one.split("<!--")[0] != other.split("<!--")[0]


@pytest.mark.slow
def test_processes_under_torchrun_write_all_pictures(checkpoint, tmp_path):
    asked = ["generate", str(checkpoint), "--prompt", "a", "--count", "3", "--area", "256"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, "-m", "reelmill.pipelines.cli", *asked, "--out", str(tmp_path / "two.png")],
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    reelmill(*asked, "--out", tmp_path / "one.png")
    assert len(list(tmp_path.glob("two-*.png"))) == 3
    for number in range(3):
        one, two = (Image.open(tmp_path / f"{name}-00{number}.png") for name in ("one", "two"))
        assert np.array_equal(one, two)


def test_processes_share_the_prompts_and_draw_what_one_does(checkpoint, tmp_path, monkeypatch):
    asked = ("generate", checkpoint, "--prompt", "a", "--count", 3, "--area", 16 * 16)
    reelmill(*asked, "--out", tmp_path / "one.png")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        reelmill(*asked, "--out", tmp_path / f"two{rank}.png")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert reelmill(*asked, "--out", tmp_path / "none.png").count("png") == 1, "rank 1 of 4 has one of the three"
    monkeypatch.setenv("RANK", "3")
    assert not reelmill(*asked, "--out", tmp_path / "none.png"), "the last has nothing to draw"
    names = sorted(path.name for path in tmp_path.glob("two*"))
    assert names == ["two0-000.png", "two0-002.png", "two1-001.png"]
    for name in names:
        assert np.array_equal(Image.open(tmp_path / name), Image.open(tmp_path / f"one{name[4:]}"))


def test_videos_from_words_a_picture_and_a_video(checkpoint, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (16, 16, 16, 3), dtype=np.uint8)
    write_clip(Clip(frames[:1]), tmp_path / "first.png", {})
    write_clip(Clip(frames, 8.0), tmp_path / "past.mp4", {})
    asked = ("generate", checkpoint, "--prompt", "a", "--area", 16 * 16, "--seconds", 1)
    assert "8 frames of 16x16" in reelmill(*asked, "--out", tmp_path / "words.mp4")
    assert "8 frames of 16x16" in reelmill(*asked, "--out", tmp_path / "p.mp4", "--image", tmp_path / "first.png")
    # The context's 12 frames and 8 more.
    past = ("--video", tmp_path / "past.mp4", "--context-seconds", 1.5)
    assert "20 frames of 16x16" in reelmill(*asked, "--out", tmp_path / "future.mp4", *past)
    assert (
        read_settings(tmp_path / "future.mp4").items()
        >= {"prompt": "a", "context_seconds": 1.5, "seconds": 1.0}.items()
    )
    reelmill(*asked, "--out", tmp_path / "many.mp4", *past, "--count", 2)
    one, other = (read_clip(tmp_path / f"many-00{n}.mp4", 16 * 16, 8, 8.0, 1.0).frames for n in range(2))
    assert not np.array_equal(one, other), "each has its own random stream"


def test_words_about_a_picture_and_a_video(checkpoint, tmp_path):
    frames = np.full((8, 16, 16, 3), 90, dtype=np.uint8)
    write_clip(Clip(frames[:1]), tmp_path / "a.png", {})
    write_clip(Clip(frames, 8.0), tmp_path / "a.mp4", {})
    small = ("--area", 16 * 16, "--max-tokens", 8, "--temperature", 1)
    assert reelmill("ask", checkpoint, tmp_path / "a.png", *small)
    assert reelmill(
        "ask", checkpoint, tmp_path / "a.mp4", "--context-seconds", 1, "--question", "What is this?", *small
    )


def test_text_that_is_no_utf8_is_refused_before_a_model_is_loaded(tmp_path):
    (tmp_path / "latin.txt").write_bytes("Stra\xdfe\n".encode("latin-1"))
    (tmp_path / "half.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b\\ud83d"}\n')
    for options, words in (
        (("--prompts", tmp_path / "latin.txt"), "latin.txt cannot be read .*UTF-8"),
        (("--prompts", tmp_path / "half.jsonl"), r"half.jsonl, line 2 is not UTF-8: character 2 is \\ud83d"),
        (("--prompt", "Stra\udcdfe"), r"prompt 1 is not UTF-8: character 5 is \\udcdf"),
        (("--prompt", "a", "--negative", "\udcdf"), "--negative is not UTF-8"),
        (("--prompt", "x" * 32_001), "prompt 1 has 32,001 characters"),
    ):
        with pytest.raises(DataError, match=words):
            reelmill("generate", tmp_path / "none", *options)
    with pytest.raises(DataError, match="--question is not UTF-8"):
        reelmill("ask", tmp_path / "none", tmp_path / "a.png", "--question", "\udcdf")


def bomb(path):
    """A small PNG whose header says 60,000 x 60,000."""
    Image.new("RGB", (64, 64)).save(path)
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


def test_files_that_cannot_be_read_are_one_line(checkpoint, tmp_path, monkeypatch, capsys):
    line = CommandLine(monkeypatch, capsys)
    bomb(tmp_path / "bomb.png")
    Image.effect_noise((64, 64), 90).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    write_clip(Clip(np.zeros((8, 16, 16, 3), dtype=np.uint8), 8.0), tmp_path / "whole.mp4", {})
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:600])
    (tmp_path / "text.png").write_text("no picture")
    video = ("generate", checkpoint, "--prompt", "a", "--area", 256, "--seconds", 1, "--out", tmp_path / "x.mp4")
    for command in (
        ("ask", checkpoint, tmp_path / "text.png"),
        ("ask", checkpoint, tmp_path / "cut.mp4"),
        ("ask", checkpoint, tmp_path),
        (*video, "--image", tmp_path / "bomb.png"),
        (*video, "--image", tmp_path / "cut.png"),
        (*video, "--video", tmp_path / "cut.mp4"),
        (*video, "--video", tmp_path / "none.mp4"),
    ):
        ended = line(*command)
        assert (ended.code, ended.out) == (DataError.exit_code, ""), (command, ended)
        assert ended.err.startswith("error: ") and ended.err.count("\n") == 1, ended.err


def test_parts_that_do_not_go_together_are_refused(checkpoint, tmp_path):
    asked = ["generate", str(checkpoint), "--prompt", "a"]
    with pytest.raises(ConfigError, match="both given"):
        CliRunner().invoke(app, [*asked, "--image", "x", "--video", "y", "--seconds", "1"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="say how much video"):
        CliRunner().invoke(app, [*asked, "--image", "x"], catch_exceptions=False)
    with pytest.raises(ConfigError, match=r"--out is x\.gif; give a \.png"):
        CliRunner().invoke(app, [*asked, "--out", "x.gif"], catch_exceptions=False)
    for wrong, words in [
        (["--out", str(tmp_path / "file" / "x.png")], "its folder cannot be made"),
        (["--preview", "x.jpg"], r"--preview is x\.jpg; give \"terminal\""),
        (["--area", "99999999"], "the maximum is 16,777,216"),
        (["--interleaved", "--seconds", "1"], "the model chooses what it generates"),
        (["--seconds", "-1"], "--seconds must be 0 or more"),
    ]:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match=words):
            CliRunner().invoke(app, [*asked, *wrong], catch_exceptions=False)
    with pytest.raises(ConfigError, match="there is no prompt"):
        CliRunner().invoke(app, asked[:2], catch_exceptions=False)
    with pytest.raises(DataError, match="is no model"):
        CliRunner().invoke(app, ["ask", str(tmp_path), "x.png"], catch_exceptions=False)
