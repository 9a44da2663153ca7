"""What the tokenizer commands do: descriptions, training media, files to codes and back."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation.media_files import write_mp4
from reelmill.files import write_atomically
from reelmill.media.source import Packed
from reelmill.tokenize import vision
from reelmill.tokenize.vision.presets import PRESETS
from reelmill.train.vision.config import TokenizerRecipe
from reelmill.train.vision.media import MediaFile, find, frames_at, media_file, read_picture
from reelmill.train.vision.run import split

MOST_AREA = 1 << 26
"""Pixels that `--area` may ask for: a tokenizer takes some hundred bytes for each."""
_STATE_BYTES = 4 * 5


def describe(name: str) -> dict[str, Any]:
    """A tokenizer by its name or file: `parameters` and those of its parts, grid, codebook, configuration.

    `fingerprint` is None where the weights are not here. Raises WeightsError for an unknown name.
    """
    import torch

    from reelmill.tokenize.vision.architectures import build

    is_here = name not in PRESETS or name in vision.names()
    tokenizer = vision.load(name) if is_here else None
    config = tokenizer.config if tokenizer else PRESETS[name]
    with torch.device("meta"):
        model = build(config)
    parts = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    return {
        "name": tokenizer.name if tokenizer else name,
        "parameters": sum(parts.values()),
        **parts,
        "spatial": config.spatial_factor,
        "temporal": config.temporal_factor,
        "codes": config.codes,
        "quantizer": config.quantizer,
        "causal": config.causal,
        "shipped": name.removesuffix(vision.INT8) in vision.names(),
        "fingerprint": tokenizer.fingerprint if tokenizer else None,
        "config": asdict(config),
    }


def plan(recipe: TokenizerRecipe) -> dict[str, Any]:
    """What training a recipe takes, without a weight of it: `parameters`, their parts, `state_gib`, what a step sees.

    `state_gib`: weights, gradients, both moments of AdamW and the moving average, float32, of all ranks together under
    FSDP, else of each; activations, LPIPS and the discriminator come on top.
    """
    import torch

    from reelmill.tokenize.vision.architectures import build

    with torch.device("meta"):
        model = build(recipe.model)
    parts = {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()}
    data, loss = recipe.data, recipe.loss
    return {
        "name": recipe.name,
        "parameters": sum(parts.values()),
        **parts,
        "state_gib": round(_STATE_BYTES * sum(parts.values()) / 2**30, 1),
        "parallel": recipe.parallel,
        "pictures": data.pictures,
        "clips": data.clips,
        "sizes": list(data.sizes),
        "steps": recipe.steps,
        "terms": [name for name, value in asdict(loss).items() if isinstance(value, float) and value],
    }


def training_media(
    data: Sequence[Path], held_out: Sequence[Path], share: float, listed: Path, selection: str
) -> tuple[list[MediaFile], list[MediaFile]]:
    """(sources to train on, held-out ones). Without `data` the media of the shipped tokenizer, fetched to `listed`."""
    if not data:
        from reelmill.train.vision.sources import fetch

        training, judged = fetch(listed)
        return [MediaFile(path) for path in training], [MediaFile(path) for path in judged]
    sources: list[MediaFile] = []
    for folder in data:
        sources += kept_samples(folder, selection) if (folder / "run.json").is_file() else find([folder])
    if held_out:
        return sources, find(held_out)
    return split(sources, share)


_KEPT = """
SELECT item_id, uri, kind, start_s, end_s FROM samples
WHERE kind IN ('image', 'video')
AND sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
ORDER BY uri, item_id, start_s"""


def kept_samples(out: Path, selection: str) -> list[MediaFile]:
    """The kept pictures and clips of a run folder, as spans of the dump's own files; DataError where none is."""
    from reelmill.orchestration.runfolder import RunFolder
    from reelmill.orchestration.views import LedgerQueries

    folder = RunFolder(out).require()
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(_KEPT, [selection])
    if not rows:
        raise DataError(f"{out} has no kept picture or clip in the selection {selection}; see `reelmill stats {out}`")
    places = folder.sources()
    found = []
    for row in rows:
        place = places[row["item_id"]]
        is_video = row["kind"] == "video"
        start, end = (row["start_s"], row["end_s"]) if is_video else (0.0, None)
        offset, member = (0, place.member) if isinstance(place, Packed) else (place.offset, None)
        found.append(MediaFile(Path(place.path), offset, place.size, row["uri"], start, end, is_video, member))
    return found


def encode_file(name: str, file: Path, codes: Path, fps: float, area: int) -> str:
    """Write a file's codes and what decoding needs; returns a line that says so."""
    from reelmill.tokenize.vision.evaluate import fit

    if not 0 < fps < math.inf:
        raise ConfigError(f"--fps is {fps:g}; it must be above 0")
    if not 0 <= area <= MOST_AREA:
        raise ConfigError(f"--area is {area}; it must be 0, for frames as they are, or up to {MOST_AREA:,}")
    tokenizer = vision.load(name)
    source = media_file(file)
    sizes: list[tuple[int, ...]] = []

    def prepared(frame: vision.Frames) -> vision.Frames:
        resized = fit(frame[None], area, tokenizer.spatial)[0] if area else frame
        sizes.append(resized.shape[:2])
        return resized

    if source.is_video:
        found = np.concatenate(list(tokenizer.encode_stream(map(prepared, frames_at(source, fps, 1 << 20)))))
        shape = (len(sizes), *sizes[0])
    else:
        found = tokenizer.encode_image(prepared(read_picture(source, 1 << 20)[0]))
        shape = sizes[0]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, codes=found, shape=shape, fps=fps, fingerprint=tokenizer.fingerprint)

    write_atomically(codes, write)
    return f"{codes}: {found.size:,} codes, {'x'.join(map(str, found.shape))}"


def decode_file(name: str, codes: Path, file: Path) -> str:
    """Write the picture or video of an archive of codes; DataError where another tokenizer made them."""
    from PIL import Image

    tokenizer = vision.load(name)
    try:
        with np.load(codes, allow_pickle=False) as archive:
            found, shape = archive["codes"], tuple(int(n) for n in archive["shape"])
            fps, fingerprint = float(archive["fps"]), str(archive["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{codes} is not an archive of codes ({error}); make one with `tokenizer encode`") from error
    if not tokenizer.made(fingerprint):
        raise DataError(
            f"{codes} was made by the tokenizer {fingerprint[:12]}, but {name} is {tokenizer.fingerprint[:12]}; "
            "name the one that made it"
        )
    ending, what = (".png", "picture") if len(shape) == 2 else (".mp4", "video")
    if file.suffix.lower() != ending:
        raise ConfigError(f"{codes} holds a {what} and the file to write is {file}; give one that ends in {ending}")
    if len(shape) == 2:
        image = Image.fromarray(tokenizer.decode_image(found, (shape[0], shape[1])))
        write_atomically(file, lambda temporary: image.save(temporary, format="PNG"))
        return f"{file}: {shape[1]}x{shape[0]} pixels"
    frames = tokenizer.decode(found, (shape[0], shape[1], shape[2]))
    write_mp4(frames, fps, file)
    return f"{file}: {shape[0]} frames of {shape[2]}x{shape[1]} pixels"
