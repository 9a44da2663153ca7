"""How long do queries of the ledger take over a million samples? Generated rows, real tables, the code of the commands.

    python bench/ledger.py [--samples 1000000]

Prints CPU-seconds, wall seconds and peak memory of deciding under new thresholds and of `reelmill stats`, beside a
named floor measured in the same run: DuckDB reading the columns that the rules look at and counting their NULLs.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelmill.config import to_toml
from reelmill.curation.ledger import CAPTIONS, FAILURES, ITEMS, VERDICTS, samples_schema
from reelmill.curation.scoring import score_columns
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, write_database
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.stats import gather
from reelmill.pipelines.curate.verdicts import write_verdicts
from reelmill.tokenize.shards import TOKENS_SCHEMA

PER_UNIT = 50_000
PER_ITEM = 10


def samples_table(schema: pa.Schema, unit: int, rng: np.random.Generator) -> pa.Table:
    """One unit of clips with plausible scores, a tenth of the expensive ones missing."""
    n = PER_UNIT
    numbers = np.arange(unit * n, (unit + 1) * n)
    start = rng.uniform(0, 600, n)
    expensive = rng.random(n) < 0.1
    columns = {
        "unit": np.full(n, unit, np.int32),
        "sample_id": [f"{i:032x}" for i in numbers],
        "item_id": [f"{i // PER_ITEM:032x}" for i in numbers],
        "kind": ["video"] * n,
        "start_s": start,
        "end_s": start + rng.exponential(8, n),
        "width": rng.choice([1280, 640, 320], n).astype(np.int32),
        "height": rng.choice([720, 360, 180], n).astype(np.int32),
        "fps": np.full(n, 25.0),
        "text_area": pa.array(rng.exponential(0.01, n), mask=expensive),
        "motion_score": pa.array(rng.lognormal(-2.7, 0.8, n), mask=expensive),
        "motion_jitter": rng.beta(1, 12, n),
        "colourfulness": rng.gamma(4, 10, n),
        "quality_score": rng.beta(5, 2, n),
    }
    filled = [columns.get(field.name, pa.nulls(n, field.type)) for field in schema]
    return pa.table([pa.array(column) for column in filled], names=schema.names).cast(schema)


def items_table(unit: int) -> pa.Table:
    """The items that a unit's samples come from."""
    n = PER_UNIT // PER_ITEM
    ids = [f"{i:032x}" for i in range(unit * n, (unit + 1) * n)]
    known = {
        "unit": np.full(n, unit, np.int32), "item_id": ids, "uri": [f"v/{i}.mp4" for i in ids], "sha256": ids,
        "kind": ["video"] * n, "status": ["done"] * n, "n_samples": np.full(n, PER_ITEM, np.int32),
    }  # fmt: skip
    filled = [known.get(field.name, pa.nulls(n, field.type)) for field in ITEMS]
    return pa.table([pa.array(column) for column in filled], names=ITEMS.names).cast(ITEMS)


def measured(name: str, work: Callable[[], object], floor: float | None = None) -> float:
    """Run `work`, print its cost, return its CPU-seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    ratio = f"   {cpu / floor:6.1f} x the floor" if floor else ""
    print(f"{name:44} {cpu:7.2f} CPU-s  {wall:7.2f} s  {peak:6d} MB peak{ratio}")
    return cpu


def main() -> None:
    """Generate, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    units = max(parser.parse_args().samples // PER_UNIT, 1)
    recipe = recipes.load("video")
    schema = samples_schema(score_columns(recipe.score))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place, RunFolder(Path(place)).lock() as folder:
        folder.commit_text(folder.recipe_path, to_toml(recipe))
        tables = {"items": ITEMS, "samples": schema, "captions": CAPTIONS, "failures": FAILURES}
        folder.prepare({**tables, "verdicts": VERDICTS, "tokens": TOKENS_SCHEMA})
        write_database(folder.root)
        for unit in range(units):
            folder.commit(folder.unit_path("samples", unit), samples_table(schema, unit, rng))
            folder.commit(folder.unit_path("items", unit), items_table(unit))
        print(f"{units * PER_UNIT:,} samples of {units * PER_UNIT // PER_ITEM:,} items in {units} units")

        def scan() -> None:
            with LedgerQueries(folder.root) as ledger:
                ledger.rows(
                    "SELECT count(text_area), count(motion_score), count(quality_score), sum(end_s) FROM scored"
                )

        floor = measured("floor: read four columns", scan)
        measured("decide under the recipe's rules", lambda: write_verdicts(folder, "default", recipe), floor)
        recipe.rules["motion"].min = 0.08
        measured("decide under a new threshold", lambda: write_verdicts(folder, "stricter", recipe), floor)
        measured("stats", lambda: gather(folder.root), floor)


if __name__ == "__main__":
    main()
