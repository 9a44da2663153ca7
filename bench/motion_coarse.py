"""Claim: RAFT's coarse look decides most clips at a fraction of the cost, and no verdict changes.

    python bench/motion_coarse.py [--seconds S] [--json FILE] VIDEO ...

Every clip of real videos (recipe `video`, scenes of at most S seconds) is measured twice in one run: as the recipe does
it, coarsely first and fully where a bound of the rule `motion` is near, and fully throughout, which is the baseline.
Prints the share of clips that the coarse look decides, CPU seconds as a ratio of the baseline's, how far the coarse
values lie from the full ones, and the verdicts that changed with the 95 % bound on their rate.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from reelmill.compat import one_thread
from reelmill.curation.ledger import PLAN
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import ItemScorer
from reelmill.pipelines.curate import recipes


def measured(paths, seconds, coarse):
    """Rows of clips with a value of RAFT, and the CPU seconds that RAFT took; the rule that decides."""
    recipe = recipes.video()
    recipe.score.scorers = {"motion_raft": {"coarse": coarse}}
    recipe.score.scenes.max_s = seconds
    rule = recipe.rules["motion"]
    scorer = ItemScorer(recipe.score, {"motion": rule})
    rows = []
    for path in paths:
        item = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": path.name, "uri": path.name, "kind": "video"}
        row, samples = scorer.score({**item, "path": str(path), "offset": 0, "size": path.stat().st_size})
        rows += [sample for sample in samples if sample.get("motion_raft") is not None]
        print(f"{path.name}: {len(samples)} clips {row['reason'] or ''}", flush=True)
    cpu_s = scorer.take_timings()["motion_raft"]
    scorer.close()
    return rows, cpu_s, rule


def kept(rule: Rule, values):
    return (values >= rule.min) & (values <= rule.max)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("videos", nargs="+", type=Path)
    arguments.add_argument("--seconds", type=float, default=2.0)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    one_thread()
    cheap, cheap_s, rule = measured(options.videos, options.seconds, coarse=True)
    full, full_s, _ = measured(options.videos, options.seconds, coarse=False)
    ours, theirs = (np.array([row["motion_raft"] for row in rows]) for rows in (cheap, full))
    rough = np.array([row["motion_raft_error"] > 0 for row in cheap])
    changed = kept(rule, ours) != kept(rule, theirs)
    ratio = np.quantile(ours[rough] / theirs[rough], [0, 0.05, 0.5, 0.95, 1]).round(3).tolist()
    found = {
        "clips": len(full),
        "decided by the coarse look": round(float(rough.mean()), 3),
        "CPU seconds of RAFT, full looks alone": round(full_s, 1),
        "CPU seconds, ratio": round(cheap_s / full_s, 3),
        "coarse over full value: least, 5 %, median, 95 %, most": ratio,
        "verdicts changed": int(changed.sum()),
        "3 / clips, the 95 % bound on a rate of which none was seen": round(3 / len(full), 4),
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
