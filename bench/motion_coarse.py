"""Claim: RAFT's rough looks decide most clips at a fraction of the cost, and hardly a verdict changes.

    python bench/motion_coarse.py [--float32 N] [--json FILE] VIDEO ...

Every pair of neighboring sampled frames of real videos (recipe `video`) is measured by every look that scorer
`motion_raft` has on this processor; the float32 look, which costs most, at every N-th pair only. Values of clips are
put together from those of their pairs: a clip begins at each sampled frame of a scene and has five of them, 2.5 s, so
neighboring ones overlap; a shorter scene is one clip. Each is decided by the rule `motion` as the recipe does it, look
after look. The baseline is the full look at every clip, in bfloat16 where the processor has it.

Prints, and after each scene writes to FILE, what share of clips each look decides, CPU time as a ratio of full looks in
float32, how far the values of each look lie from the baseline's, and the verdicts that changed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from reelmill.compat import one_thread
from reelmill.curation.ledger import PLAN
from reelmill.curation.scorers.motion import Look, RaftMotion, evenly_spaced
from reelmill.curation.scoring import ItemScorer
from reelmill.pipelines.curate import recipes

PAIRS_OF_A_CLIP = 4


class Pairs(RaftMotion):
    """`pairs`: of every look its values of a sample's pairs and the CPU-seconds of one, as JSON."""

    columns: ClassVar = {"pairs": "VARCHAR"}
    shares: ClassVar = {}
    approximate: ClassVar = {}

    def score(self, samples):
        return [{"pairs": json.dumps(self._all(sample))} for sample in samples]

    def _all(self, sample):
        images, found = sample.frames.images, []
        for look in self._looks(sample) if len(images) > 1 else []:
            first = np.arange(len(images) - 1)[:: 1 if look.error else FLOAT32_EVERY if self.fast else 1]
            began = time.process_time()
            speeds = self.speeds(images, first, look)
            cpu_s = (time.process_time() - began) / len(first)
            values = dict(zip(first.tolist(), (np.array(speeds) / look.side).tolist(), strict=True))
            found.append([vars(look), cpu_s, values])
        return found


FLOAT32_EVERY = 1


def measured(paths):
    """Of every scene its looks, each with CPU-seconds a pair and values by pair."""
    recipe = recipes.video()
    recipe.score.scorers = {"pairs": {"use": "motion_coarse:Pairs"}}
    scorer = ItemScorer(recipe.score, {})
    for path in paths:
        item = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": path.name, "uri": path.name, "kind": "video"}
        row, samples, *_ = scorer.score({**item, "path": str(path), "offset": 0, "size": path.stat().st_size})
        print(f"{path.name}: {len(samples)} scenes {row['reason'] or ''}", flush=True)
        for sample in samples:
            looks = json.loads(sample.get("pairs") or "[]")
            if looks:
                yield [(Look(**look), cpu, {int(k): v for k, v in values.items()}) for look, cpu, values in looks]
    scorer.close()


def clips(scene):
    """Of each clip of a scene, look by look: the look, its value of the clip, its CPU-seconds."""
    complete = [look for look in scene if len(look[2]) == len(scene[0][2])]
    pairs = len(complete[0][2])
    for start in range(max(pairs - PAIRS_OF_A_CLIP, 0) + 1):
        count = min(pairs, PAIRS_OF_A_CLIP)
        yield [
            (look, float(np.mean([values[start + i] for i in chosen])), cpu * len(chosen))
            for look, cpu, values in complete
            for chosen in [evenly_spaced(count, look.pairs)]
        ]


def decided(clip, rule):
    """By which look a clip is decided, and whether it is kept."""
    for place, (look, value, _) in enumerate(clip):
        verdicts = {rule.min <= value * factor <= rule.max for factor in (1 / (1 + look.error), 1, 1 + look.error)}
        if len(verdicts) == 1 or place == len(clip) - 1:
            return place, rule.min <= value <= rule.max
    raise AssertionError


def report(scenes, rule):
    """What the module's docstring says is printed, by name."""
    every = [clip for scene in scenes for clip in clips(scene)]
    cost, changed, distances = 0.0, 0, []
    by_look: dict[str, int] = {}
    ratios: dict[str, list[float]] = {}
    for clip in every:
        place, keep = decided(clip, rule)
        full = clip[-1][1]
        cost += sum(cpu for _, _, cpu in clip[: place + 1])
        names = [name(look) for look, _, _ in clip]
        by_look[names[place]] = by_look.get(names[place], 0) + 1
        for each, (_, value, _) in zip(names[:-1], clip[:-1], strict=True):
            ratios.setdefault(each, []).append(value / full)
        if keep != (rule.min <= full <= rule.max):
            changed += 1
            distances.append(min(abs(full / rule.min - 1), abs(full / rule.max - 1)))
    last = [(scene[-1], scene[-2] if len(scene) > 1 else scene[-1]) for scene in scenes]
    float32 = [
        values[k] / near[2][k] for (_, _, values), near in last for k in values if near[2].get(k, 0) > rule.min / 2
    ]
    exact_s = sum(scene[-1][1] * min(len(scene[0][2]), PAIRS_OF_A_CLIP) for scene in scenes for _ in clips(scene))
    return {
        "clips": len(every),
        "pairs": sum(len(scene[0][2]) for scene in scenes),
        "decided by": {each: round(count / len(every), 3) for each, count in by_look.items()},
        "CPU time, ratio to full looks in float32": round(cost / exact_s, 3),
        "over the full look's value: least, 5 %, median, 95 %, most": {k: quantiles(v) for k, v in ratios.items()},
        "pairs, float32 over bfloat16, of at least half the lower bound": [len(float32), *quantiles(float32)],
        "verdicts changed": changed,
        "farthest from a bound of those, relative": round(max(distances, default=0.0), 3),
    }


def name(look):
    return f"{'full' if look.error <= 0.1 else look.side} x {look.iterations}, {look.pairs} pairs"


def quantiles(values):
    return np.quantile(values or [np.nan], [0, 0.05, 0.5, 0.95, 1]).round(3).tolist()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("videos", nargs="+", type=Path)
    arguments.add_argument("--float32", type=int, default=1, help="every how many pairs in float32 too")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    one_thread()
    import motion_coarse  # where the scorer, named in the recipe, looks for it

    motion_coarse.FLOAT32_EVERY = options.float32
    scenes = []
    for scene in measured(options.videos):
        scenes.append(scene)
        found = report(scenes, recipes.video().rules["motion"])
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    for what, value in found.items():
        print(f"{what}: {value}")


if __name__ == "__main__":
    main()
