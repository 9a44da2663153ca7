"""Quality fine-tuning on the toy world: select, tokenize at a larger size, fine-tune on codes alone, the rate to zero.

    python bench/post_qft.py WORK

Half of the pictures are blurred or noisy. They are curated (48 x 48 pixels a document) and a small decoder is trained
on all of them. `reelmill select` then ranks them by two scores and keeps two fifths, tokenized at 64 x 64 (Emu3: from
512 to 720), and recipe `qft` goes on from there. Printed: who was kept; the loss on held-out documents of the selection
before and after, at either size, beside as many steps on all documents, with EOL, EOF and EOI in the loss and under
other choices of what the paper does not say; what the models draw. What is there already is left as it is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from rich.console import Console
from scenes import CONFIG, World, every, nearest, obeys, pictures

from reelmill.curation.interfaces import Sample, Scorer
from reelmill.eval.generation import SamplingParams, Studio, TokenSampling
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.select import SelectOptions, select
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.recipes.quality import qft
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

WORLD = World(pictures=2_400, spoiled=0.5)
SIDE, LARGER = 48, 64
BASE = replace(CONFIG, data=replace(CONFIG.data, heldout=0.1), steps=350, validate_every=350)
STEPS, RATE = 60, 5e-4
SAMPLING = SamplingParams(vision=TokenSampling(top_k=20))


class Clean(Scorer):
    """`clean_score`, in place of the preference models: how close a picture is to the scenes of the world."""

    columns: ClassVar = {"clean_score": "DOUBLE"}
    kinds: ClassVar = ("image",)

    def score(self, samples: Sequence[Sample]) -> list[dict[str, Any]]:
        return [{"clean_score": -nearest(sample.frames.images[0])[1]} for sample in samples]


def write_dump(dump: Path) -> None:
    """One picture file each, with caption and quality in a sidecar."""
    dump.mkdir(parents=True)
    for number, (what, picture, quality) in enumerate(pictures(WORLD, LARGER)):
        Image.fromarray(picture).save(dump / f"{number:05d}.png")
        beside = {"caption": what.caption, "source": quality}
        (dump / f"{number:05d}.json").write_text(json.dumps(beside))


def curated(work: Path) -> Path:
    """The run folder of all pictures, at the smaller size."""
    dump, out = work / "dump", work / "run"
    if not dump.exists():
        write_dump(dump)
    recipe = recipes.sample()
    recipe.plan.unit_items = 500
    recipe.score.scorers = {"quality": {}, "clean": {"use": "post_qft:Clean"}}
    recipe.rules = {"image_resolution": replace(recipe.rules["image_resolution"], min=1.0)}
    recipe.tokens.area, recipe.tokens.caption_after = SIDE * SIDE, 0.0
    recipe.engine.executor = "inline"
    curate([dump], out, recipe, CurateOptions(), Console(quiet=True))
    return out


def selected(run: Path) -> str:
    """Select and tokenize; the fingerprint of the selection's tokens."""
    wanted = (f"rules.image_resolution.min={LARGER * LARGER}", f"tokens.area={LARGER * LARGER}")
    scores = ("quality_score", "clean_score")
    select(run, "quality", SelectOptions(wanted, "qft", 0.4, scores, complete=True), Console(width=110))
    with LedgerQueries(run) as ledger:
        kept = """SELECT source, count(*) AS all, count(*) FILTER (v.status = 'kept') AS kept FROM verdicts v
            JOIN samples USING (sample_id) WHERE v.selection = 'quality' GROUP BY 1 ORDER BY 1"""
        print("kept:", ", ".join("{kept} of {all} {source}".format(**row) for row in ledger.rows(kept)))
        (row,) = ledger.rows(f"SELECT fingerprint FROM tokens WHERE grid_h = {LARGER // 8} GROUP BY 1")
    return str(row["fingerprint"])


def tuned(base: Path, fingerprint: str, steps: int = STEPS, **changes: Any) -> TrainConfig:
    """Recipe `qft` at the toy's size. `changes` are of its optimizer, but `data` of its data."""
    data, recipe = changes.pop("data", {}), qft()
    small = DataConfig(context=512, batch_rows=2, heldout=0.1, kinds=("image",), fingerprint=fingerprint)
    weights = {name: getattr(recipe.data, name) for name in vars(small) if name.endswith("_weight")}
    how = {"lr": RATE, "warmup_steps": 10, **changes}
    return replace(
        CONFIG,
        init=str(base),
        data=replace(small, **{**weights, "caption_drop": recipe.data.caption_drop, **data}),
        optimizer=OptimizerConfig(**{**vars(recipe.optimizer), **how}),
        steps=steps,
        validate_every=STEPS,
        validate_rows=64,
        checkpoint=CheckpointConfig(every=steps),
    )


def trained(config: TrainConfig, run: Path, folder: Path, selection: str | None) -> dict[str, float]:
    """Train if it is not done yet; returns the last validation."""
    if not (folder / "checkpoints").is_dir() or checkpoint.latest(folder / "checkpoints") is None:
        train(config, [run], folder, selection, log_fn=lambda _: None)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    validations = [line["validation"] for line in lines if line.get("validation")]
    return dict(validations[-1])


def drawn(folder: Path, side: int) -> str:
    """What a model draws: the share that obeys its caption, and the distance from the world's scenes."""
    last = checkpoint.latest(folder / "checkpoints")
    assert last is not None
    captions = [what.caption for what in every()]
    found = Studio.open(last).images(captions, side // 8, side // 8, sampling=SAMPLING)
    right = np.mean([obeys(picture, caption) for picture, caption in zip(found, captions, strict=True)])
    away = np.median([nearest(picture)[1] for picture in found])
    return f"{right:.1%} of {len(found)} obey their captions; {away:.1f} grey levels from a scene (median)"


def compare(run: Path, work: Path, configs: dict[str, TrainConfig], selection: str | None = "quality") -> None:
    """Print one line for each."""
    for name, config in configs.items():
        found = trained(config, run, work / name.replace(" ", "_"), selection)
        print(f"{name:50} {found['vision']:6.3f} {found['structure']:10.3f} {found['text']:6.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    began = time.process_time()
    run, base = curated(work), work / "base"
    first = json.loads((run / "run.json").read_text())["tokens_fingerprint"]
    trained(replace(BASE, data=replace(BASE.data, fingerprint=first)), run, base, None)
    print(f"curated, base model trained: {time.process_time() - began:.0f} CPU-seconds", flush=True)
    larger = selected(run)
    print(f"\nheld-out documents of the selection, nats a token   vision  structure   text\nat {SIDE} x {SIDE} pixels")
    same = work / "same"
    compare(run, same, {"before": tuned(base, first, steps=1, lr=0.0), "qft": tuned(base, first)})
    trained(tuned(base, first), run, same / "all", None)
    compare(
        run,
        same,
        {
            "as many steps on all documents": tuned(same / "all", first, steps=1, lr=0.0),
            "qft where EOL EOF and EOI count": tuned(base, first, data={"ends_weight": 1.0}),
        },
    )
    print(f"at {LARGER} x {LARGER} pixels")
    compare(
        run,
        work / "larger",
        {
            "before": tuned(base, larger, steps=1, lr=0.0),
            "qft": tuned(base, larger),
            "qft where EOL EOF and EOI count": tuned(base, larger, data={"ends_weight": 1.0}),
            "qft with a cosine to zero": tuned(base, larger, schedule="cosine"),
            "qft at a third of the rate": tuned(base, larger, lr=RATE / 3),
            "qft at three times the rate": tuned(base, larger, lr=RATE * 3),
        },
    )
    print("\ndrawn with top-k 20")
    for name, folder, side in (
        (f"before, {SIDE}", same / "before", SIDE),
        (f"all documents, {SIDE}", same / "all", SIDE),
        (f"qft, {SIDE}", same / "qft", SIDE),
        (f"qft, {LARGER}", work / "larger" / "qft", LARGER),
    ):
        print(f"{name:20} {drawn(folder, side)}", flush=True)
    print(f"{time.process_time() - began:.0f} CPU-seconds in all")


if __name__ == "__main__":
    main()
