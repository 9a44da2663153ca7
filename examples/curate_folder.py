"""Curate a folder of videos, images and texts, and look at what was kept: python curate_folder.py DUMP OUT"""

import sys

import reelmill

dump, out = sys.argv[1:3]
run = reelmill.curate(
    dump,
    out,
    recipe="sample",  # Emu3's bounds are recipe "video"
    set={"score.scenes.max_s": 20.0, "rules.motion.min": 0.005},
    executor="inline",  # in this process; leave it out for Ray
)
kept = run.selection()
print(f"{kept.num_rows} of {run.samples().num_rows} samples are kept")
for sample in kept.select(["uri", "kind", "start_s", "end_s", "caption"]).to_pylist():
    print(sample)
