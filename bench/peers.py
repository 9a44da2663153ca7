"""All comparisons beside peers in one table: `make bench-peers`.

    python bench/peers.py [NAME …] [--python PYTHON] [--pip-args "…"] [--out build/peers]

Each NAME is a comparison below; without one all of them run, in turn. A peer that is no part of our own environment
gets one of its own under `--out`, made by PYTHON at the first run, of the versions that are pinned here.
`build/peers/table.md` has a row for each: who, what work, costs, ratio, peak memory; the rows where we are not ahead
come first.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beside import Row, read_json

HERE = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Comparison:
    """`command`: a script of this folder with its options, `{python}` the interpreter with the peer's `packages`."""

    command: str
    packages: tuple[str, ...] = ()


COMPARISONS = {
    "curation": Comparison("curate.py --pass-only --rounds 3 --json"),
    "data-juicer": Comparison("curate.py --data-juicer {python} --json", ("py-data-juicer==1.6.1", TORCH)),
    "img2dataset": Comparison(
        "fetch.py --images 5000 --rounds 1 --img2dataset {python} --json", ("img2dataset==1.47.0",)
    ),
    "datatrove": Comparison("text.py --json"),
    "loaders": Comparison(
        "loader.py --peers {python} --json",
        ("mosaicml-streaming==0.13.0", "webdataset==1.0.2", "trl==1.16.0", TORCH, "tiktoken"),
    ),
    "faiss": Comparison("duplicates.py scale 1000000 --faiss {python} --json", ("faiss-cpu==1.12.0",)),
    "trl": Comparison("dpo.py --vocabulary 50000 --pairs 2 --longest 1000 --json"),
    "transformers": Comparison("generate.py --images 2 --height 12 --width 12 --json"),
}


def interpreter(name: str, packages: Sequence[str], python: str, pip_args: Sequence[str], out: Path) -> str:
    """The Python of the peer's environment, which is made where it is not there."""
    place = out / name
    ready = place / "packages.txt"
    wanted = "\n".join(packages)
    if not ready.is_file() or ready.read_text(encoding="utf-8") != wanted:
        print(f"{name}: installing {', '.join(packages)} into {place}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin/pip"), "install", "-q", *pip_args, *packages], check=True)
        ready.write_text(wanted, encoding="utf-8")
    return str(place / "bin/python")


def run(name: str, how: Comparison, python: str, pip_args: Sequence[str], out: Path) -> list[Row]:
    """The rows of one comparison. SystemExit with what its script said, where it fails."""
    peer = interpreter(name, how.packages, python, pip_args, out) if how.packages else ""
    script, *options = how.command.format(python=peer).split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / script), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {shlex.join(command)} ended with status {done.returncode}")
    return fetched(done.stdout) if name == "img2dataset" else read_json(done.stdout)


def fetched(output: str) -> list[Row]:
    """What bench/fetch.py found, as rows."""
    found = json.loads(output.strip().splitlines()[-1])
    ours = found.pop("reelmill")
    return [
        Row("fetching pictures", name, "CPU-s", ours["cpu_s"], row["cpu_s"], ours["megabytes"], row["megabytes"])
        for name, row in found.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """Markdown. The rows where we are not ahead come first, then the others by ratio."""
    lines = ["| work | peer | unit | peer | ours | ratio | peer MB | our MB |", "|---|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row.ratio):
        peaks = [f"{mb:,.0f}" if mb is not None else "" for mb in (row.theirs_mb, row.ours_mb)]
        costs = [f"{cost:.3g}" for cost in (row.theirs, row.ours)]
        lines.append(f"| {' | '.join([row.work, row.peer, row.unit, *costs, f'{row.ratio:.2f}', *peaks])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMPARISONS))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pip-args", default="")
    parser.add_argument("--out", type=Path, default=HERE.parent / "build/peers")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(COMPARISONS):
        parser.error(f"no comparison {', '.join(sorted(unknown))}; there are {', '.join(COMPARISONS)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in asked.names or COMPARISONS:
        rows += run(name, COMPARISONS[name], asked.python, shlex.split(asked.pip_args), asked.out)
        (asked.out / "table.md").write_text(table(rows), encoding="utf-8")
    print(table(rows), end="")


if __name__ == "__main__":
    main()
