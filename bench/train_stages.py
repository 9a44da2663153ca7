"""Does training learn from real pictures, video and text, stage 1 then stage 2? From nothing to figures and a plot.

    python bench/train_stages.py WORK        (needs apt, pip and npm; matplotlib for the plot)

WORK/media: the files that the shipped tokenizer was trained on and text of Debian's `fortunes`, by hash. WORK/dump: a
dump made of them, captioned by their names. WORK/run: what `reelmill curate` keeps of it. Then, for each weight of a
code in the loss (0.5, Emu3's, and 1.0), WORK/train/W/stage1 on text and images, and WORK/train/W/stage2, which starts
from stage 1, adds video and has a context four times as long. Printed: NLL on held-out items by stage and weight beside
the unigram entropy; WORK/train/stages.png is the plot. What is there already is left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig
from reelmill.train.vision.archives import unpack
from reelmill.train.vision.sources import fetch, packages

RECIPE = """
base = "sample"
[rules]
image_resolution.min = 16384.0
resolution.min = 90.0
duration.min = 0.8
motion.min = 0.001
[tokens]
area = 36864
max_latent_frames = 4
"""
FORTUNES = ("1:1.99.1-7.3", "41d0551dc0ff52f875a2ecef7c39da2f672ab468c37e170119f7e0245a9d63c5")
THEMES = ("art", "education", "law", "literature", "people", "science", "wisdom", "work")
WEIGHTS = (0.5, 1.0)
STAGE1 = TrainConfig(
    model=ModelConfig(
        hidden=96, layers=3, heads=2, kv_heads=1, head_dim=64, mlp=256, qk_norm=True, rope_theta=10_000.0,
        dropout=0.0, attention_dropout=0.0, init_std=0.06,
    ),
    data=DataConfig(context=1024, batch_rows=2, heldout=0.08, kinds=("text", "image")),
    optimizer=OptimizerConfig(lr=4e-3, warmup_steps=40),
    steps=360,
    precision="float32",
    validate_every=90,
    validate_rows=16,
    checkpoint=CheckpointConfig(every=180),
)  # fmt: skip
STAGE2 = replace(
    STAGE1,
    data=replace(STAGE1.data, context=4096, batch_rows=1, kinds=("text", "image", "video")),
    optimizer=OptimizerConfig(lr=1e-3, warmup_steps=15),
    steps=80,
    validate_every=20,
    validate_rows=6,
)


def words(stem: str) -> str:
    """A file's name as words, without numbers."""
    return " ".join(re.findall(r"[A-Za-z]{2,}", re.sub(r"([a-z])([A-Z])", r"\1 \2", stem))).lower()


def make_dump(media: Path, dump: Path) -> None:
    """Hard links to the pictures and videos, each with a caption and its licence beside it; texts of about 4 kB."""
    chosen, _ = fetch(media)
    licences = {package.folder: package.licence for package in packages()}
    for number, path in enumerate(chosen):
        package = path.relative_to(media).parts[0]
        named = dump / package / f"{number:04d}-{path.name}"
        named.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, named)
        about = words(package.rpartition("-")[0])
        caption = {"caption": f"{words(path.stem)}, of {about}", "license": licences[package], "source": about}
        named.with_suffix(".json").write_text(json.dumps(caption))
    with tempfile.TemporaryDirectory(dir=media) as scratch:
        files, download = Path(scratch, "files"), Path(scratch, "download")
        files.mkdir()
        download.mkdir()
        unpack("debian", "fortunes", *FORTUNES, lambda name: Path(name).name in THEMES, files, download)
        for theme in sorted(path for path in files.rglob("*") if path.is_file()):
            write_texts(theme, dump / "fortunes")


def write_texts(theme: Path, folder: Path, size: int = 4096) -> None:
    """The sayings of a file, as many in a text as make `size` characters."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [""]
    for saying in theme.read_text(encoding="utf-8").split("\n%\n"):
        if len(texts[-1]) > size:
            texts.append("")
        texts[-1] += saying.strip() + "\n\n"
    for number, text in enumerate(texts):
        (folder / f"{theme.name}-{number:03d}.txt").write_text(text, encoding="utf-8")


def curate(dump: Path, out: Path) -> None:
    recipe = out.with_suffix(".toml")
    recipe.write_text(RECIPE)
    command = [sys.executable, "-m", "reelmill", "curate", str(dump), "--out", str(out), "--recipe", str(recipe)]
    subprocess.run([*command, "--executor", "inline"], check=True)
    subprocess.run([sys.executable, "-m", "reelmill", "stats", str(out)], check=True)


def train_stages(run: Path, folder: Path, weight: float) -> None:
    stage1 = replace(STAGE1, data=replace(STAGE1.data, vision_weight=weight))
    stage2 = replace(STAGE2, data=replace(STAGE2.data, vision_weight=weight), init=str(folder / "stage1"))
    for name, config in (("stage1", stage1), ("stage2", stage2)):
        began = time.process_time()
        train(config, [run], folder / name)
        print(f"vision weight {weight}, {name}: {time.process_time() - began:.0f} CPU-seconds\n", flush=True)


def validations(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line.get("validation")]


def report(folder: Path) -> None:
    """The table: the last validation of each stage and weight."""
    print("held-out items, nats a token   " + "".join(f"{kind:>22}" for kind in ("text", "vision", "codes shuffled")))
    for weight in WEIGHTS:
        for stage in ("stage1", "stage2"):
            last = validations(folder / str(weight) / stage)[-1]
            text, vision = (
                f"{last['validation'][kind]:.3f} ({last['unigram_entropy'][kind]:.3f})" for kind in ("text", "vision")
            )
            print(f"vision weight {weight}, {stage:10}     {text:>22}{vision:>22}{last['vision_shuffled']:>22.3f}")
    print("in brackets: unigram entropy of the training items")


def plot(folder: Path) -> None:
    """NLL of text and of codes on held-out items over the tokens seen, both weights, both stages."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    per_step = [config.data.context * config.data.batch_rows / 1e6 for config in (STAGE1, STAGE2)]
    boundary = STAGE1.steps * per_step[0]
    for panel, kind in zip(panels, ("text", "vision"), strict=True):
        for weight, colour in zip(WEIGHTS, ("tab:blue", "tab:orange"), strict=True):
            for stage, start, step, style in (("stage1", 0, per_step[0], "-"), ("stage2", boundary, per_step[1], "--")):
                lines = validations(folder / str(weight) / stage)
                seen = [start + line["step"] * step for line in lines]
                label = f"vision weight {weight}, {stage.replace('stage', 'stage ')}"
                nll = [line["validation"][kind] for line in lines]
                panel.plot(seen, nll, style, color=colour, marker=".", label=label)
        panel.axhline(lines[-1]["unigram_entropy"][kind], color="grey", linewidth=0.8, label="unigram entropy")
        panel.axvline(boundary, color="grey", linewidth=0.8, linestyle=":")
        panel.set(title=kind, xlabel="million tokens seen", ylabel="nats a token, held-out items")
    panels[0].legend(fontsize="small")
    figure.savefig(folder / "stages.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--media", type=Path, help="where the media lie or go; WORK/media when not given")
    args = parser.parse_args()
    media, dump, run, folder = (
        args.media or args.work / "media",
        args.work / "dump",
        args.work / "run",
        args.work / "train",
    )
    if not dump.is_dir():
        with tempfile.TemporaryDirectory(dir=args.work) as made:
            make_dump(media, Path(made, "dump"))
            Path(made, "dump").rename(dump)
    curate(dump, run)
    for weight in WEIGHTS:
        train_stages(run, folder / str(weight), weight)
    report(folder)
    plot(folder)


if __name__ == "__main__":
    main()
