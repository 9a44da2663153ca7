"""Planning a table of many URLs: seconds and memory, the first time, again, and with one percent more rows; then what
the stages take that begin with such a plan: the list of what is to be fetched, a worker that scores, and one that
decodes again and looks up where items lie.

    python bench/plan.py [--rows 1000000] [--stages-only] [--json]

The table has rows as LAION's: a URL, a caption, sides, a similarity. Each run is a process of its own; its memory is
the most that it held, without the child that reads the table. Stages get a plan that is written for them, a tenth of
whose rows repeat a URL.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from beside import print_figures

BATCH = 100_000


def address(number: int) -> str:
    """A URL of its own for each number."""
    return f"https://pictures-{number % 997}.example.org/{number:08x}/photo-{number}.jpg"


def write_table(path: Path, rows: int) -> None:
    """Rows of which each has an address of its own."""
    writer = None
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        table = pa.table(
            {
                "url": list(map(address, numbers)),
                "caption": [f"A photo, number {n}, of something that a page describes in some words" for n in numbers],
                "width": [640] * len(numbers),
                "height": [480] * len(numbers),
                "similarity": [0.3] * len(numbers),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def plan(table: Path, out: Path) -> dict[str, float]:
    """One planning, in this process."""
    from reelmill.orchestration.plan import PlanConfig, extend_plan
    from reelmill.orchestration.runfolder import RunFolder

    with RunFolder(out).lock() as folder:
        planned = extend_plan(folder, table, PlanConfig())
    return {"new": planned.new_items, "known": planned.known_items}


def write_plan(out: Path, rows: int, *, is_here: bool) -> None:
    """A run folder with a plan of so many addresses, none of which was fetched; or of files that are here."""
    from reelmill.curation.ledger import FETCHES, ITEMS, PLAN
    from reelmill.orchestration.runfolder import RunFolder

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, 8192):
            numbers = range(start, min(start + 8192, rows))
            columns = {name: [None] * len(numbers) for name in PLAN.names} | {
                "unit": [n // 64 for n in numbers],
                "position": [n % 64 for n in numbers],
                "item_id": [f"{n:032x}" for n in numbers],
                "uri": [f"urls.parquet/{n:08d}" for n in numbers],
                "kind": ["image"] * len(numbers),
                "dump": ["/dumps/urls.parquet"] * len(numbers),
                "path": [
                    f"/dumps/pictures/{n // 1000}/photo-{n}.jpg" if is_here else "/dumps/urls.parquet" for n in numbers
                ],
                "offset": [0] * len(numbers),
                "size": [0] * len(numbers),
                "member": list(numbers),
                "url": [None if is_here else address(n - n % 10 // 9) for n in numbers],
                "known": [json.dumps({"alt": f"A photo, number {n}, in some words", "side": 480}) for n in numbers],
            }
            yield pa.record_batch([pa.array(columns[f.name], f.type) for f in PLAN], schema=PLAN)

    with RunFolder(out).lock() as folder:
        folder.prepare({"fetches": FETCHES, "items": ITEMS})
        folder.commit_batches(folder.plan_path, PLAN, batches())


def fetch_list(out: Path) -> dict[str, float]:
    """What is left to be fetched, and the rows of one unit."""
    from reelmill.orchestration.fetch import fetch_tasks
    from reelmill.orchestration.runfolder import RunFolder

    with RunFolder(out).lock() as folder:
        tasks = fetch_tasks(folder)
        rows, first = sum(task["items"] for task in tasks), tasks[0]["wanted"].rows()
        return {"tasks": len(tasks), "rows": rows, "rows of the first": len(first)}


def score_list(out: Path) -> dict[str, float]:
    """What is left to be scored, and what a worker reads of the plan for the first unit."""
    from reelmill.orchestration.forgotten import forgotten_hashes
    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.orchestration.score import score_tasks

    folder = RunFolder(out)
    tasks = score_tasks(folder, "none")
    with folder.plan() as plan:
        return {"tasks": len(tasks), "forgotten": len(forgotten_hashes(plan)), "rows of the first": len(plan.unit(0))}


def measured(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What a piece of work gives, with its cost in this process."""
    began = time.monotonic()
    found = work()
    own = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s, megabytes = own.ru_utime + own.ru_stime, own.ru_maxrss / 1e3
    return {**found, "seconds": time.monotonic() - began, "cpu_s": cpu_s, "megabytes": megabytes}


def look_up(out: Path) -> dict[str, float]:
    """Where items lie, for a worker that decodes again; each in a file of its own."""
    from reelmill.orchestration.runfolder import RunFolder

    places = RunFolder(out).sources()
    began = time.monotonic()
    found = [places[f"{n * 997 % max(len(places), 1):032x}"] for n in range(1000)]
    return {"rows": len(places), "found": len(found), "microseconds each": (time.monotonic() - began) * 1000}


STAGES = {"fetch": fetch_list, "score": score_list, "places": look_up}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stages-only", action="store_true", help="no planning, which takes long")
    parser.add_argument("--plan", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plan:
        print(json.dumps(measured(lambda: plan(*asked.plan))))
        return
    if asked.stage:
        name, out = asked.stage
        print(json.dumps(measured(lambda: STAGES[name](Path(out)))))
        return
    found = {} if asked.stages_only else planning(asked.rows)
    with tempfile.TemporaryDirectory(prefix="reelmill-plan-") as place:
        for name in STAGES:
            out = Path(place, "here" if name == "places" else "out")
            if not out.exists():
                write_plan(out, asked.rows, is_here=name == "places")
            found[name] = child("--stage", name, str(out))
    print_figures(found, asked.json)


def child(*arguments: str) -> dict[str, float]:
    """The figures of this script with other arguments, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def planning(rows: int) -> dict[str, dict[str, float]]:
    """The three runs of planning."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="reelmill-plan-") as place:
        table, out = Path(place, "urls.parquet"), Path(place, "out")
        for name, count in (("first", rows), ("again", rows), ("grown", rows + rows // 100)):
            if name != "again":
                write_table(table, count)
            found[name] = child("--plan", str(table), str(out))
    return found


if __name__ == "__main__":
    main()
