"""Run the campaigns in turns until the time is over; exit 1 where anything failed.

    python -m torture [--minutes 10] [--seed N] [--only NAME] [--try N] [--jobs N]

Groups of campaigns run at the same time, one a processor: `--jobs`.

Every failure is a line with the command that tries exactly that again; they are in FOLDER/failures.txt too.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom

from torture.campaign import CAMPAIGNS, Tried, campaign, chance, groups, table


def main():
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", choices=[*CAMPAIGNS], default=None)
    parser.add_argument("--try", dest="number", type=int, default=None, help="with --only: this one try")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=Path, default=Path("build/torture"))
    asked = parser.parse_args()
    seed = SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    names = [asked.only] if asked.only else [*CAMPAIGNS]
    found, seconds = at_once(groups(names, asked.jobs), seed, asked.folder.resolve(), 60 * asked.minutes, asked.number)
    print(table(found, seconds))
    failures = [line for tried in found.values() for line in tried.failures]
    (asked.folder / "failures.txt").write_text("".join(f"{line}\n" for line in failures))
    sys.exit(bool(failures))


def at_once(dealt, seed, folder, limit_s, number):
    """What `torment` gives, of groups of campaigns that run each in a process of its own."""
    places = [folder / str(n) for n in range(len(dealt))]
    if len(dealt) == 1:
        return torment(dealt[0], seed, places[0], limit_s, number)
    found, spent = {}, {}
    with ProcessPoolExecutor(len(dealt), multiprocessing.get_context("spawn")) as pool:
        made = [
            pool.submit(torment, names, seed, place, limit_s, number)
            for names, place in zip(dealt, places, strict=True)
        ]
        for tried, seconds in (each.result() for each in made):
            found |= tried
            spent |= seconds
    return {name: found[name] for name in CAMPAIGNS if name in found}, spent


def torment(names, seed, folder, limit_s, number=None):
    """({name: Tried}, {name: seconds}): the campaign that lags behind its share of the time has the next turn."""
    found = {name: Tried() for name in names}
    spent, turns = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    end = time.monotonic() + limit_s
    with ExitStack() as held:
        tries = {}
        while time.monotonic() < end:
            name = min(names, key=lambda name: spent[name] / CAMPAIGNS[name][1])
            began, turn = time.monotonic(), turns[name] if number is None else number
            if name not in tries:
                tries[name] = held.enter_context(campaign(name)(folder / CAMPAIGNS[name][0]))
            tried = _once(tries[name], chance(seed, name, turn))
            turns[name] += 1
            found[name].tries += tried.tries
            for failure in tried.failures:
                again = f'python -m torture --seed {seed} --only "{name}" --try {turn}'
                found[name].failures.append(f"{again}: {failure}")
                print(f"FAILED {again}: {failure}", flush=True)
            spent[name] += time.monotonic() - began
            if number is not None:
                break
    return found, spent


def _once(attempt, chance_of_it):
    """What the try found; an exception is a failure of it."""
    try:
        return attempt(chance_of_it)
    except Exception:
        return Tried(1, [traceback.format_exc().strip().replace("\n", " | ")[-2000:]])


if __name__ == "__main__":
    main()
