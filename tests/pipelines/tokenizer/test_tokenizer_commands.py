"""`reelmill tokenizer`: what is listed, files to codes and back, training from a run folder's kept samples."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.cli import app
from reelmill.pipelines.tokenizer import run as tokenizers
from reelmill.tokenize.vision import load
from reelmill.tokenize.vision.evaluate import psnr

NAME = "reelmill-tok-xs"


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def picture(height=70, width=101):
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return np.stack([90 + 60 * x / width, 110 + 50 * y / height, 140 + 20 * np.sin(x / 9)], -1).astype(np.uint8)


def test_list_and_show_say_how_large_each_is():
    listed = {row["name"]: row for row in json.loads(run("tokenizer", "list", "--json"))}
    assert listed["emu3-vision-tokenizer"]["parameters"] == 270_740_287
    assert listed["emu3-vision-tokenizer"]["codes"] == 32_768 and not listed["emu3-vision-tokenizer"]["shipped"]
    ibq = listed["emu3.5-vision-tokenizer"]
    assert (ibq["parameters"], ibq["encoder"], ibq["decoder"]) == (455_336_963, 184_533_760, 237_117_187)
    assert (ibq["quantize"], ibq["quant_conv"] + ibq["post_quant_conv"]) == (33_554_432, 131_584)
    assert (ibq["spatial"], ibq["temporal"], ibq["codes"], ibq["quantizer"]) == (16, 1, 131_072, "ibq")
    shown = json.loads(run("tokenizer", "show", NAME, "--json"))
    assert shown == listed[NAME]
    assert (shown["spatial"], shown["temporal"], shown["fingerprint"]) == (8, 4, load(NAME).fingerprint)
    assert shown["parameters"] == sum(p.numel() for p in load(NAME).model.parameters())
    assert "270,740,287" in run("tokenizer", "show", "emu3-vision-tokenizer")
    whole = json.loads(run("tokenizer", "show", f"{NAME}-int8", "--json"))
    assert whole["shipped"] and whole["fingerprint"] == load(f"{NAME}-int8").fingerprint != shown["fingerprint"]
    assert NAME in run("tokenizer", "list")


def test_a_dry_run_says_what_training_would_take(tmp_path):
    asked = ("emu3.5-vision-tokenizer", "--out", tmp_path / "out", "--set", "data.pictures=4", "--dry-run")
    planned = json.loads(run("tokenizer", "train", *asked))
    assert planned["parameters"] == 455_336_963 and planned["pictures"] == 4 and planned["steps"] == 500_000
    assert planned["state_gib"] == round(20 * 455_336_963 / 2**30, 1)
    assert {"semantic", "entropy", "adversarial"} <= set(planned["terms"]) and "flicker" not in planned["terms"]
    assert not (tmp_path / "out").exists()


def test_a_picture_of_odd_size_goes_to_codes_and_back(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "in.png")
    assert "9x13" in run("tokenizer", "encode", NAME, tmp_path / "in.png", tmp_path / "codes.npz")
    run("tokenizer", "decode", NAME, tmp_path / "codes.npz", tmp_path / "out.png")
    decoded = np.asarray(Image.open(tmp_path / "out.png"))
    with pytest.raises(
        ConfigError, match=r"holds a picture and the file to write is .*out\.mp4; give one that ends in"
    ):
        tokenizers.decode_file(NAME, tmp_path / "codes.npz", tmp_path / "out.mp4")
    assert decoded.shape == (70, 101, 3) and psnr(picture(), decoded) > 20
    run("tokenizer", "encode", f"{NAME}-int8", tmp_path / "in.png", tmp_path / "whole.npz")
    run("tokenizer", "decode", NAME, tmp_path / "whole.npz", tmp_path / "whole.png")
    assert psnr(picture(), np.asarray(Image.open(tmp_path / "whole.png"))) > 20


def test_a_video_goes_to_codes_and_back(tmp_path):
    import av

    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=16)
        stream.width, stream.height = 128, 96
        for t in range(32):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture(96, 128), t, axis=1))))
        container.mux(stream.encode())
    assert "4x12x16" in run("tokenizer", "encode", NAME, tmp_path / "in.mp4", tmp_path / "codes.npz", "--fps", 8)
    assert "16 frames of 128x96" in run("tokenizer", "decode", NAME, tmp_path / "codes.npz", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == 8
        assert sum(1 for _ in container.decode(video=0)) == 16


def test_codes_of_another_tokenizer_and_files_that_are_no_codes_are_refused(tmp_path):
    np.savez(tmp_path / "codes.npz", codes=np.zeros((2, 2), int), shape=(16, 16), fps=8, fingerprint="0123456789abcdef")
    with pytest.raises(DataError, match="made by the tokenizer 0123456789ab"):
        tokenizers.decode_file(NAME, tmp_path / "codes.npz", tmp_path / "out.png")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="not an archive of codes"):
        tokenizers.decode_file(NAME, tmp_path / "text.npz", tmp_path / "out.png")


def test_training_reads_the_kept_samples_of_a_run_folder(tmp_path):
    from PIL import Image as Pictures

    dump = tmp_path / "dump"
    dump.mkdir()
    rng = np.random.default_rng(0)
    for n, side in enumerate((640, 640, 100)):  # the last is too small to be kept
        noise = Pictures.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8))
        noise.resize((side, side), Pictures.Resampling.BICUBIC).save(dump / f"{n}.png")
    run("curate", dump, "--out", tmp_path / "out", "--recipe", "video", "--set", "engine.executor=inline")
    sources, held_out = tokenizers.training_media([tmp_path / "out"], [dump], 0.0, tmp_path, "default")
    assert sorted(source.name for source in sources) == ["0.png", "1.png"]
    assert not any(source.is_video for source in sources) and len(held_out) == 3
    with pytest.raises(DataError, match="selection other"):
        tokenizers.training_media([tmp_path / "out"], [], 0.0, tmp_path, "other")
