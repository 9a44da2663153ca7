"""What does decoding each item in a confined process of its own cost, and are the rows the same?

    python bench/confinement.py [DUMP...] [--items N]

Milliseconds for each item beside decoding: a text of few bytes and a small picture go through the child N times (300),
confined, unconfined, and plainly in one process (`in this process`), in turns; wall and CPU time of all processes. The
lowest of five rounds counts, since other work on the machine can only add. Each DUMP is scored twice with the cheap
scorers of recipe `sample`, confined and not, and the tables of items and samples are compared. Linux.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from reelmill.compat import one_thread
from reelmill.config import to_dict
from reelmill.curation.scoring import EXPANDERS, DecodeConfig
from reelmill.isolation.child import find_job
from reelmill.isolation.confinement import available
from reelmill.isolation.messages import SAMPLES
from reelmill.isolation.parent import Child, IsolationConfig
from reelmill.media.source import Source
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate

ROUNDS = 5
OPTIONS = {**to_dict(DecodeConfig()), "scenes": {}}


def main() -> None:
    """Print one JSON line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dumps", nargs="*", type=Path)
    parser.add_argument("--items", type=int, default=300)
    arguments = parser.parse_args()
    one_thread()
    print(json.dumps({"layers": str(available())}))
    with tempfile.TemporaryDirectory() as folder:
        for kind, source in _items(Path(folder)).items():
            for measured in _costs(kind, source, arguments.items):
                print(json.dumps(measured))
        for number, dump in enumerate(arguments.dumps):
            print(json.dumps({"dump": dump.name, **_compared(dump, Path(folder) / str(number))}))


def _items(folder: Path) -> dict[str, Source]:
    (folder / "few.txt").write_text("a few words")
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((512, 512), Image.Resampling.BICUBIC).save(folder / "picture.jpg", quality=85)
    paths = {"text": folder / "few.txt", "image": folder / "picture.jpg"}
    return {kind: Source(str(path), 0, path.stat().st_size) for kind, path in paths.items()}


def _costs(kind: str, source: Source, items: int) -> list[dict[str, Any]]:
    job = EXPANDERS[kind]

    def alone() -> None:
        for _ in find_job(job)(source, OPTIONS):
            pass

    best: dict[str, dict[str, float]] = {}
    with (
        Child(IsolationConfig()) as confined,
        Child(IsolationConfig(confine=False)) as unconfined,
    ):
        ways: dict[str, tuple[Callable[[], object], Child | None]] = {
            "in this process": (alone, None),
            "unconfined": (lambda: list(unconfined.run(job, source, OPTIONS, SAMPLES)), unconfined),
            "confined": (lambda: list(confined.run(job, source, OPTIONS, SAMPLES)), confined),
        }
        for act, _ in ways.values():
            act()
        for _ in range(ROUNDS):
            for name, (act, child) in ways.items():
                found = _timed(act, child, items)
                best[name] = {key: min(value, best.get(name, found)[key]) for key, value in found.items()}
    return [
        {"kind": kind, "way": name, **{key: round(value, 2) for key, value in ms.items()}} for name, ms in best.items()
    ]


def _timed(act: Callable[[], object], child: Child | None, items: int) -> dict[str, float]:
    cpu, wall, theirs = time.process_time(), time.perf_counter(), child.cpu_s if child else 0.0
    for _ in range(items):
        act()
    spent = time.process_time() - cpu + (child.cpu_s - theirs if child else 0.0)
    return {"wall_ms": 1e3 * (time.perf_counter() - wall) / items, "cpu_ms": 1e3 * spent / items}


def _compared(dump: Path, folder: Path) -> dict[str, Any]:
    """Items, samples, and whether the tables of both runs are equal."""
    found = []
    for confine in (True, False):
        out = folder / str(confine)
        names = ("colourfulness", "quality", "motion_dis")
        recipe = recipes.load("sample", ["engine.executor=inline", f"score.isolation.confine={str(confine).lower()}"])
        recipe.score.scorers = {name: recipe.score.scorers[name] for name in names}
        recipe.rules, recipe.captions.sources = {"duration": recipe.rules["duration"]}, ["facts"]
        curate([dump], out, recipe, CurateOptions(), Console(file=io.StringIO()))
        with LedgerQueries(out) as ledger:
            tables = ("items", "scored", "tokens", "failures")
            found.append({name: ledger.rows(f"SELECT * FROM {name} ORDER BY ALL") for name in tables})
    counts = {name: len(rows) for name, rows in found[0].items()}
    return {
        **counts,
        "refused": sum(row["status"] == "refused" for row in found[0]["items"]),
        "equal": found[0] == found[1],
    }


if __name__ == "__main__":
    main()
