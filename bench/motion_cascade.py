"""Claim: DIS flow cannot stand in for RAFT where a rule decides: RAFT is asked about every clip that is still wanted.

    python bench/motion_cascade.py VIDEO …

Scores every clip of real videos with both (recipe `video`, its bounds of motion) and looks for the cascade that
spares most of RAFT: DIS alone decides below a value and above another one, RAFT between them. Prints how far the two
lie apart, what the widest cascade spares in which no verdict of these clips changes, and how many verdicts change where
DIS decides all that lies beyond a bound by a factor of two.
"""

import argparse
from pathlib import Path

import numpy as np

from reelmill.compat import one_thread
from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import ItemScorer
from reelmill.pipelines.curate import recipes


def clips(paths):
    """Values of DIS and RAFT of every clip in which something can move, both [clips], and the rule of motion."""
    recipe = recipes.video()
    wanted = ("motion_dis", "motion_raft")
    recipe.score.scorers = {"motion_dis": {}, "motion_raft": {"coarse": False}}
    scorer = ItemScorer(recipe.score, {})
    values = []
    for path in paths:
        item = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": path.name, "uri": path.name, "kind": "video"}
        row, samples = scorer.score({**item, "path": str(path), "offset": 0, "size": path.stat().st_size})
        found = [[sample[name] for name in wanted] for sample in samples if sample.get("motion_raft") is not None]
        print(f"{path.name}: {len(found)} clips {row['reason'] or ''}", flush=True)
        values += found
    scorer.close()
    return *np.array(values).T, recipe.rules["motion"]


def widest(dis, kept):
    """Bounds (low, high) on DIS so that below low no clip is kept by RAFT and above high every one is."""
    low = dis[kept].min(initial=np.inf)
    high = dis[~kept].max(initial=-np.inf)
    return low, high


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("videos", nargs="+", type=Path)
    one_thread()
    dis, raft, rule = clips(arguments.parse_args().videos)
    ratio = np.quantile(raft / dis, [0, 0.05, 0.5, 0.95, 1])
    ranks = [values.argsort().argsort() for values in (dis, raft)]
    kept = (raft >= rule.min) & (raft <= rule.max)
    low, high = widest(dis, kept)
    spared = (dis < low) | (dis > high)
    fails = (dis < rule.min / 2) | (dis > rule.max * 2)
    passes = (dis >= rule.min * 2) & (dis <= rule.max / 2)
    wrong = (fails & kept) | (passes & ~kept)
    print(f"{len(dis)} clips; rank correlation {np.corrcoef(ranks)[0, 1]:.2f}")
    print("RAFT over DIS, least, 5 %, median, 95 %, most:", end="")
    print("  " + "  ".join(f"{value:.2f}" for value in ratio))
    print(f"no verdict changes with DIS below {low:.4f} and above {high:.4f}: {spared.mean():.0%} of RAFT spared")
    print(f"a factor of two from a bound: {(fails | passes).mean():.0%} spared, {wrong.sum()} verdicts changed")


if __name__ == "__main__":
    main()
