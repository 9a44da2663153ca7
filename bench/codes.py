"""How many of a tokenizer's codes do unseen photographs use?

    python bench/codes.py MEDIA [--more FOLDER ...] [--tokenizer reelmill-tok-s]

MEDIA is where `reelmill tokenizer train` keeps the listed media (OUT/media; what is missing is fetched). The held-out
photographs, and those of further folders that look like none of the listed media, are cut at their own resolution into
whole squares of 256 x 256 that do not overlap, each encoded by itself. Prints the share of the codebook that the first
so many codes use, squares in random order, beside the share that codes drawn alike would use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from reelmill.media.kinds import VIDEO_SUFFIXES
from reelmill.tokenize import vision
from reelmill.train.vision.choose import choose
from reelmill.train.vision.media import MediaFile, read_picture
from reelmill.train.vision.sources import fetch

SIDE = 256
WHOLE = 1 << 20
"""A short side larger than any picture: nothing is shrunk."""


def squares(path: Path) -> list[vision.Frames]:
    picture = read_picture(MediaFile(path), WHOLE)[0]
    rows, columns = (side // SIDE for side in picture.shape[:2])
    corners = [(SIDE * row, SIDE * column) for row in range(rows) for column in range(columns)]
    return [np.ascontiguousarray(picture[y : y + SIDE, x : x + SIDE]) for y, x in corners]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="folders of further photographs")
    parser.add_argument("--tokenizer", default="reelmill-tok-s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = vision.load(arguments.tokenizer)
    listed = [[path for path in paths if path.suffix not in VIDEO_SUFFIXES] for paths in fetch(arguments.media)]
    more = [path for folder in arguments.more for path in sorted(folder.rglob("*.jpg")) if not path.is_symlink()]
    photographs = listed[1] + choose(more, listed[0] + listed[1])
    found = np.stack([tokenizer.encode_image(square).ravel() for path in photographs for square in squares(path)])
    codes = found[np.random.default_rng(0).permutation(len(found))].ravel()
    print(f"{len(photographs)} photographs, {len(found)} squares, {codes.size:,} codes of {tokenizer.codes:,}")
    for seen in sorted({*(count for i in range(5) if (count := 12_288 * 2**i) < codes.size), codes.size}):
        used = len(np.unique(codes[:seen])) / tokenizer.codes
        print(f"{seen:9,} codes seen: {used:6.1%} used, drawn alike {1 - (1 - 1 / tokenizer.codes) ** seen:6.1%}")


if __name__ == "__main__":
    main()
