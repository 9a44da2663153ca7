"""Export kept clips as WebDataset shards and read them: python export_clips.py OUT SHARDS"""

import json
import sys
import tarfile
from pathlib import Path

import reelmill

out, shards = sys.argv[1:3]
print(reelmill.open_run(out).export_clips(shards, kinds=["video"]))

for path in sorted(Path(shards).glob("video-*.tar")):  # webdataset.WebDataset(paths) gives the same, sample by sample
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.endswith(".json"):
                facts = json.load(tar.extractfile(member))
                start, end = facts["clip_start_s"], facts["clip_end_s"]
                print(member.name, facts["quality_score"], f"seconds {start:.2f} to {end:.2f} of its file")
