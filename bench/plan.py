"""Planning a table of many URLs: seconds and memory, the first time, again, and with one percent more rows.

    python bench/plan.py [--rows 1000000] [--json]

The table has rows as LAION's: a URL, a caption, sides, a similarity. Each of the three runs is a process of its own;
its memory is the most that it held, without the child that reads the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from beside import print_figures

BATCH = 100_000


def write_table(path: Path, rows: int) -> None:
    """Rows of which each has an address of its own."""
    writer = None
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        table = pa.table(
            {
                "url": [f"https://pictures-{n % 997}.example.org/{n:08x}/photo-{n}.jpg" for n in numbers],
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

    began = time.monotonic()
    with RunFolder(out).lock() as folder:
        planned = extend_plan(folder, table, PlanConfig())
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "new": planned.new_items,
        "known": planned.known_items,
        "seconds": time.monotonic() - began,
        "cpu_s": own.ru_utime + own.ru_stime,
        "megabytes": own.ru_maxrss / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plan", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plan:
        print(json.dumps(plan(*asked.plan)))
        return
    found = {}
    with tempfile.TemporaryDirectory(prefix="reelmill-plan-") as place:
        table, out = Path(place, "urls.parquet"), Path(place, "out")
        for name, rows in (("first", asked.rows), ("again", asked.rows), ("grown", asked.rows + asked.rows // 100)):
            if name != "again":
                write_table(table, rows)
            command = [sys.executable, __file__, "--plan", str(table), str(out)]
            found[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    print_figures(found, asked.json)


if __name__ == "__main__":
    main()
