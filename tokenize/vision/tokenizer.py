"""A trained tokenizer: pictures and clips to codes and back. Shapes are written for Emu3's 4 frames of 8 x 8 pixels.

A tokenizer without a time axis (Emu3.5's) gives the frames of a clip their codes one by one. With the others a clip is
encoded chunk by chunk, 4 frames to one latent frame, so that memory does not grow with its length. A tokenizer whose
configuration says `causal` carries what its causal convolutions saw from one chunk to the next: the codes are those of
the whole clip at once, and neighboring chunks join without a seam. The others (Emu3's own example among them) encode
every 4 frames on their own: any latent frame then decodes on its own, but the picture jumps a little every fourth
frame.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from reelmill.config import nearest
from reelmill.errors import ConfigError, DataError, WeightsError
from reelmill.files import write_atomically
from reelmill.tokenize.layout import EMU3 as EMU3_LAYOUT
from reelmill.tokenize.layout import EMU3_5 as EMU3_5_LAYOUT
from reelmill.tokenize.layout import Layout
from reelmill.tokenize.vision import published
from reelmill.tokenize.vision.architectures import build, config_from
from reelmill.tokenize.vision.ibq import EMU3_5, IBQConfig
from reelmill.tokenize.vision.integer import integer_copy
from reelmill.tokenize.vision.model import Stream, TokenizerModel
from reelmill.tokenize.vision.movq import EMU3
from reelmill.tokenize.vision.quantize import NearestCode
from reelmill.tokenize.vision.tiles import MARGIN, grid, tiles

WEIGHTS = Path(__file__).with_name("weights")
MAX_PIXELS = 4096 * 4096
"""Largest frame accepted, in pixels."""

_FORMAT = "reelmill.tokenizer"
INT8 = "-int8"
"""What stands behind the name of a shipped tokenizer that encodes in whole numbers."""

Frames = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class RunConfig:
    """How a tokenizer is run. On a GPU: `device` cuda, `precision` bfloat16, `batch` as much as fits, `compile`.

    `precision` int8: frames are encoded in whole numbers (`integer.py`), which is fast on a CPU; decoding is float32's.
    `batch`: frames that are taken at once (a multiple of 4; on the CPU each is computed by itself all the same).
    `tile`: larger frames are cut into tiles of this many pixels a side, which overlap (`tiles.py`), to bound memory.
    """

    device: str = "cpu"
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    batch: int = 4
    tile: int = 1024
    compile: bool = False


DEFAULT_RUN = RunConfig()


class VisionTokenizer:
    """Frames to codes and back. Make one with `load`.

    `name`; `codes`, the size of the codebook; `spatial` (8) pixels a side and `temporal` (4) frames a code; `layout`,
    that of documents with its codes (Emu3.5's where there is no time axis); `config`; `fingerprint`, a hex SHA-256 of
    configuration, weights and how they are run: equal fingerprints mean the same codes (up to rounding, on hardware of
    another kind).
    """

    def __init__(self, model: TokenizerModel, name: str, run: RunConfig = DEFAULT_RUN) -> None:
        self.model = model.float().eval().requires_grad_(False).to(run.device)
        self.name = name
        self.run = run
        self.config = model.config
        self.codes = model.quantize.size
        self.spatial = model.config.spatial_factor
        self.temporal = model.config.temporal_factor
        self.layout: Layout = EMU3_5_LAYOUT if self.temporal == 1 else EMU3_LAYOUT
        self.fingerprint = _fingerprint(self.model, run)
        if run.tile % self.spatial or run.tile < 4 * MARGIN * self.spatial:
            raise ConfigError(
                f"tile is {run.tile}; it must be a multiple of {self.spatial} and at least {4 * MARGIN * self.spatial}"
            )
        if run.batch < self.temporal or run.batch % self.temporal:
            raise ConfigError(f"batch is {run.batch}; it must be a positive multiple of {self.temporal} frames")
        self._encoding = integer_copy(self.model) if run.precision == "int8" else self.model
        encode, decode = self._encoding.encode_frames, self.model.decode_frames
        self._encode_frames = torch.compile(encode) if run.compile else encode
        self._decode_frames = torch.compile(decode) if run.compile else decode

    @property
    def pictures_at_once(self) -> int:
        """How many pictures of one size one call of the encoder takes; on the CPU 1, as `_features` says why."""
        return 1 if self.run.device == "cpu" else self.run.batch

    def encode(self, frames: Frames) -> Codes:
        """[T, H, W, 3] uint8 RGB to [ceil(T/4), ceil(H/8), ceil(W/8)] int32 codes.

        Any size and number of frames: missing pixels repeat the last row, column or frame. Memory is that of
        `run.batch` frames of `run.tile` pixels a side. Raises DataError for any other shape or type.
        """
        self._check(frames, ndim=4)
        return np.concatenate(list(self.encode_stream(frames)))

    def encode_stream(self, frames: Iterable[Frames]) -> Iterator[Codes]:
        """Frames [H, W, 3] uint8 RGB of one size, one after the other, to the codes that `encode` gives of all of them,
        `run.batch` / 4 at a time: [n, ceil(H/8), ceil(W/8)]. Raises DataError as `encode` does."""
        streams: list[Stream] = []
        pending = iter(frames)
        while batch := list(islice(pending, self.run.batch)):
            yield self._encode_batch(np.stack(batch), streams)
        if not streams:
            raise DataError("there are no frames; nothing to encode")

    def encode_image(self, image: Frames) -> Codes:
        """[H, W, 3] uint8 RGB to [ceil(H/8), ceil(W/8)] int32 codes: those of 4 equal frames."""
        self._check(image, ndim=3)
        codes: Codes = self.encode_images(image[None])[0]
        return codes

    def encode_images(self, images: Frames) -> Codes:
        """[N, H, W, 3] uint8 RGB, N pictures of one size, to [N, ceil(H/8), ceil(W/8)] int32 codes: of each those of
        `encode_image`. They are encoded `pictures_at_once`."""
        self._check(images, ndim=4)
        codes = np.empty((len(images), *grid((1, *images.shape[1:3]), self.temporal, self.spatial)[1:]), dtype=np.int32)
        together = self.pictures_at_once
        with torch.inference_mode(), self._autocast():
            for first in range(0, len(images), together):
                some = slice(first, first + together)
                for tile in tiles(codes.shape[1:], self.run.tile // self.spatial):
                    features = self._features(images[some][:, *tile.pixels(self.spatial)])
                    still = features[:, None].expand(-1, self.temporal, -1, -1, -1)
                    found = self.model.quantize.encode(self._encoding.merge(still, Stream()))[:, 0]
                    codes[some][:, *tile.inner] = found.to(torch.int32).cpu().numpy()[:, *tile.kept]
        return codes

    def decode(self, codes: Codes, shape: tuple[int, int, int] | None = None) -> Frames:
        """[T, h, w] codes to [4T, 8h, 8w, 3] uint8 RGB, cropped to `shape` (frames, height, width) where given.

        Raises DataError for a wrong shape or a code out of range.
        """
        checked = self._check_codes(codes, ndim=3)
        frames = np.empty((len(codes) * self.temporal, *self._pixels(codes), 3), dtype=np.uint8)
        with torch.inference_mode(), self._autocast():
            for tile in tiles(codes.shape[1:], self.run.tile // self.spatial):
                stream = Stream() if self.config.causal else None
                for i, latent in enumerate(checked[:, *tile.outer]):
                    decoded = _to_uint8(self._reconstruct(latent[None, None], stream=stream))
                    place = slice(i * self.temporal, (i + 1) * self.temporal)
                    frames[place, *tile.inner_pixels(self.spatial)] = decoded[:, *tile.kept_pixels(self.spatial)]
        count, height, width = shape or (None, None, None)
        return frames[:count, :height, :width]

    def decode_image(self, codes: Codes, shape: tuple[int, int] | None = None) -> Frames:
        """[h, w] codes to [8h, 8w, 3] uint8 RGB, the first of the 4 frames that they decode to, cropped to `shape`."""
        checked = self._check_codes(codes, ndim=2)
        image = np.empty((*self._pixels(codes), 3), dtype=np.uint8)
        with torch.inference_mode(), self._autocast():
            for tile in tiles(codes.shape, self.run.tile // self.spatial):
                decoded = _to_uint8(self._reconstruct(checked[tile.outer][None, None], frames=1))
                image[tile.inner_pixels(self.spatial)] = decoded[0, *tile.kept_pixels(self.spatial)]
        height, width = shape or (None, None)
        return image[:height, :width]

    def made(self, fingerprint: str) -> bool:
        """Whether codes of that fingerprint are those of this configuration and these weights, encoded as here, in
        float32 or in int8: all decode alike."""
        ways = (DEFAULT_RUN, RunConfig(precision="int8"))
        return fingerprint == self.fingerprint or fingerprint in [_fingerprint(self.model, way) for way in ways]

    def codebook(self) -> Tensor:
        """The vector of each code, float32 [codes, channels]."""
        codes = torch.arange(self.codes, device=self.run.device).view(1, -1, 1, 1)
        with torch.inference_mode():
            return self.model.quantize.decode(codes)[0, :, :, 0, 0].t().float().clone()

    def _encode_batch(self, frames: Frames, streams: list[Stream]) -> Codes:
        """[T, H, W, 3] to [ceil(T/4), ceil(H/8), ceil(W/8)], going on where `streams`, one a tile, ended."""
        self._check(frames, ndim=4)
        codes = np.empty(grid(frames.shape[:3], self.temporal, self.spatial), dtype=np.int32)
        places = list(tiles(codes.shape[1:], self.run.tile // self.spatial))
        streams += [Stream() for _ in places[len(streams) :]]
        with torch.inference_mode(), self._autocast():
            for tile, stream in zip(places, streams, strict=True):
                features = self._features(frames[:, *tile.pixels(self.spatial)])
                missing = -len(features) % self.temporal
                features = torch.cat([features, features[-1:].expand(missing, -1, -1, -1)])
                codes[:, *tile.inner] = self._codes(features, stream)[:, *tile.kept]
        return codes

    def _features(self, frames: Frames) -> Tensor:
        """[n, H, W, 3] to [n, z, ceil(H/8), ceil(W/8)]."""
        pixels = torch.tensor(np.ascontiguousarray(frames), device=self.run.device)
        pixels = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)  # in place: memory of its own costs more
        missing = [-side % self.spatial for side in pixels.shape[-2:]]
        if any(missing):
            pixels = F.pad(pixels, (0, missing[1], 0, missing[0]), mode="replicate")
        if self.run.device != "cpu":
            return self._encode_frames(pixels)
        # One frame at a time: on a CPU the order of a convolution's sums may depend on the batch, and a code must not.
        return torch.cat([self._encode_frames(frame) for frame in torch.split(pixels, 1)])

    def _codes(self, features: Tensor, stream: Stream) -> Codes:
        """[T, z, h, w] features of frames to [T/4, h, w] codes."""
        if self.config.causal:
            vectors = self._encoding.merge(features.unsqueeze(0), stream)
        else:
            chunks = torch.split(features, self.temporal)
            vectors = torch.cat([self._encoding.merge(chunk.unsqueeze(0)) for chunk in chunks])
        return self.model.quantize.encode(vectors).flatten(0, 1).to(torch.int32).cpu().numpy()

    def _reconstruct(self, codes: Tensor, frames: int | None = None, stream: Stream | None = None) -> Tensor:
        """[1, T, h, w] codes to [4T, 3, 8h, 8w] frames, or only the first `frames`."""
        quantized = self.model.quantize.decode(codes.to(self.run.device))
        features, beside = self.model.expand(quantized, frames, stream)
        inputs = (features.flatten(0, 1), beside.flatten(0, 1))
        if self.run.device != "cpu":
            return self._decode_frames(*inputs)
        # One frame at a time, as in `_features`; it also takes less memory.
        parts = zip(*(torch.split(tensor, 1) for tensor in inputs), strict=True)
        return torch.cat([self._decode_frames(*part) for part in parts])

    def _autocast(self) -> torch.autocast:
        device = torch.device(self.run.device).type
        return torch.autocast(device, torch.bfloat16, enabled=self.run.precision == "bfloat16")

    def _pixels(self, codes: Codes) -> tuple[int, int]:
        return codes.shape[-2] * self.spatial, codes.shape[-1] * self.spatial

    def _check(self, frames: Frames, ndim: int) -> None:
        shape = "[T, H, W, 3]" if ndim == 4 else "[H, W, 3]"
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            found = frames.dtype if isinstance(frames, np.ndarray) else type(frames).__name__
            raise DataError(f"frames are {found}; give a NumPy array of uint8, {shape}, RGB in 0..255")
        if frames.ndim != ndim or frames.shape[-1] != 3:
            raise DataError(f"frames have shape {list(frames.shape)}; it must be {shape}")
        if frames.size == 0:
            raise DataError(f"frames have shape {list(frames.shape)}; nothing to encode")
        height, width = frames.shape[-3:-1]
        if height * width > MAX_PIXELS:
            raise DataError(f"frames are {height}x{width}; at most {MAX_PIXELS} pixels are taken: resize")

    def _check_codes(self, codes: Codes, ndim: int) -> Tensor:
        shape = "[T, h, w]" if ndim == 3 else "[h, w]"
        if not isinstance(codes, np.ndarray) or not np.issubdtype(codes.dtype, np.integer):
            found = codes.dtype if isinstance(codes, np.ndarray) else type(codes).__name__
            raise DataError(f"codes are {found}; give a NumPy array of integers, {shape}")
        if codes.ndim != ndim or codes.size == 0:
            raise DataError(f"codes have shape {list(codes.shape)}; it must be {shape}, none of them 0")
        if codes.shape[-1] * codes.shape[-2] * self.spatial**2 > MAX_PIXELS:
            raise DataError(f"codes have shape {list(codes.shape)}; a frame may have at most {MAX_PIXELS} pixels")
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codes:
            raise DataError(f"codes lie in {low}..{high}; {self.name} has codes 0..{self.codes - 1}")
        return torch.from_numpy(codes.astype(np.int64))


def names() -> list[str]:
    """Names of the tokenizers shipped with the package."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load(name_or_path: str | Path, run: RunConfig = DEFAULT_RUN) -> VisionTokenizer:
    """A shipped tokenizer by name, one from a file that `save` wrote, or a published one: "emu3-vision-tokenizer" once
    it was pulled, or a folder as Emu3's or Emu3.5's is published (`published.py`). The name of a shipped one with
    "-int8" behind it is that one with `precision` int8.

    Raises WeightsError when there is no such tokenizer, or the file is damaged or not a tokenizer.
    """
    shipped = str(name_or_path).removesuffix(INT8)
    if shipped != str(name_or_path) and shipped in names():
        tokenizer = load(shipped, replace(run, precision="int8"))
        tokenizer.name = str(name_or_path)
        return tokenizer
    if str(name_or_path) == published.NAME or (str(name_or_path) not in names() and Path(name_or_path).is_dir()):
        return VisionTokenizer(*published.read(name_or_path), run)
    path = WEIGHTS / f"{name_or_path}.safetensors" if str(name_or_path) in names() else Path(name_or_path)
    if not path.is_file():
        known = nearest(path.name, [*names(), *(name + INT8 for name in names()), published.NAME])
        raise WeightsError(
            f"no vision tokenizer {str(name_or_path)!r}, nor such a file; {known}, a .safetensors file that `reelmill "
            "tokenizer train` wrote, or a folder as Emu3's is published"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file: {error}") from error
    if _FORMAT not in metadata:
        raise WeightsError(
            f"{path} carries no {_FORMAT!r} metadata; a file written by this package's training is needed"
        )
    header = json.loads(metadata[_FORMAT])
    model = build(config_from(header["config"]))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if missing or unexpected:
        raise WeightsError(f"{path} does not fit its configuration; missing {missing}, unexpected {unexpected}")
    if isinstance(model.quantize, NearestCode):
        model.quantize.freeze()
    return VisionTokenizer(model, header["name"], run)


def load_by_fingerprint(fingerprint: str, name_or_path: str | None = None) -> VisionTokenizer:
    """The tokenizer that made codes of that fingerprint, in float32 or int8: the shipped one, or the one named.

    DataError if it is not.
    """
    for name in names() if name_or_path is None else [name_or_path]:
        tokenizer = load(name)
        if tokenizer.fingerprint == fingerprint:
            return tokenizer
        for run in (DEFAULT_RUN, RunConfig(precision="int8")):
            if _fingerprint(tokenizer.model, run) == fingerprint:
                return load(str(name).removesuffix(INT8), run)
    if name_or_path is not None:
        raise DataError(
            f"the codes are those of the vision tokenizer {fingerprint[:12]}, but {name_or_path} is "
            f"{tokenizer.fingerprint[:12]}; name the one that made them (`reelmill tokenizer list`)"
        )
    raise DataError(
        f"none of the shipped tokenizers ({', '.join(names())}) has the fingerprint {fingerprint[:12]}; name the file "
        "of the one that made the tokens"
    )


def save(model: TokenizerModel, name: str, path: Path) -> None:
    """Write the weights in float16 and, as metadata, name and configuration: one file that `load` takes."""
    header = json.dumps({"name": name, "config": asdict(model.config)})
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
    }
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata={_FORMAT: header}))


def _fingerprint(model: TokenizerModel, run: RunConfig) -> str:
    # Values equal to Emu3's (or Emu3.5's) are left out: an option added later leaves old fingerprints unchanged.
    usual = asdict(EMU3_5 if isinstance(model.config, IBQConfig) else EMU3)
    special = {
        key: value for key, value in asdict(model.config).items() if value != usual[key] or key == "architecture"
    }
    digest = hashlib.sha256(json.dumps(special, sort_keys=True).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.cpu().numpy().tobytes())
    if (run.precision, run.tile) != (DEFAULT_RUN.precision, DEFAULT_RUN.tile):
        digest.update(f"{run.precision} {run.tile}".encode())
    return digest.hexdigest()


def _to_uint8(frames: Tensor) -> Frames:
    """[N, 3, H, W] in [-1, 1] to [N, H, W, 3] uint8."""
    pixels = ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
