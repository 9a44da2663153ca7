"""How many of a tokenizer's codes do photographs use that it was never trained on?

    python bench/codes.py MEDIA [--tokenizer reelmill-tok-s]

MEDIA is where `reelmill tokenizer train` keeps the listed media (OUT/media; what is missing is fetched). The held-out
photographs are cut at their own resolution into whole squares of 256 x 256 that do not overlap, each encoded by itself.
Prints the share of the codebook that the first so many codes use, squares in random order, beside the share that codes
drawn alike would use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from reelmill.tokenize import vision
from reelmill.train.vision.media import VIDEOS, Source, read_picture
from reelmill.train.vision.sources import fetch

SIDE = 256
WHOLE = 1 << 20
"""A short side in pixels that no picture has: nothing is shrunk."""


def squares(path: Path) -> list[vision.Frames]:
    picture = read_picture(Source(path), WHOLE)[0]
    rows, columns = (side // SIDE for side in picture.shape[:2])
    corners = [(SIDE * row, SIDE * column) for row in range(rows) for column in range(columns)]
    return [np.ascontiguousarray(picture[y : y + SIDE, x : x + SIDE]) for y, x in corners]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", type=Path)
    parser.add_argument("--tokenizer", default="reelmill-tok-s")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = vision.load(arguments.tokenizer)
    photographs = [path for path in fetch(arguments.media)[1] if path.suffix not in VIDEOS]
    found = np.stack([tokenizer.encode_image(square).ravel() for path in photographs for square in squares(path)])
    codes = found[np.random.default_rng(0).permutation(len(found))].ravel()
    print(f"{len(photographs)} photographs, {len(found)} squares, {codes.size:,} codes of {tokenizer.codes:,}")
    for seen in sorted({*(12_288 * 2**i for i in range(4)), codes.size}):
        used = len(np.unique(codes[:seen])) / tokenizer.codes
        print(f"{seen:9,} codes seen: {used:6.1%} used, drawn alike {1 - (1 - 1 / tokenizer.codes) ** seen:6.1%}")


if __name__ == "__main__":
    main()
