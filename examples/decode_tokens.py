"""Turn a document's tokens into a picture, beside the frame that they were made of: python decode_tokens.py OUT PNG"""

import sys

import numpy as np
from PIL import Image

import reelmill

out, png = sys.argv[1:3]
run = reelmill.open_run(out)
row, document = next(run.documents(kinds=["video", "image"]))
print(f"{document.kind}, codes {document.codes.shape}, caption {document.caption!r}")

decoded = run.decode(document)  # uint8 [T, H, W, 3]
height, width = decoded.shape[1:3]
source = run.frames(row["sample_id"], short_side=min(height, width))
original = np.asarray(Image.fromarray(source[0]).resize((width, height)))
Image.fromarray(np.concatenate([original, decoded[0]], axis=1)).save(png)
