"""Evaluation of a vision tokenizer on files: reconstruct, compare, summarize.

The protocol is that of Emu3's Table 2 (Wang et al. 2024, section 2.2). The paper says: "We report LPIPS (computed by
the AlexNet features), PSNR, and SSIM scores [...] using an evaluation dataset of 3,172 videos from Pexels. The videos
were reconstructed over 5 seconds while maintaining the aspect ratio. During evaluation, original and reconstructed
videos were resized and cropped based on the shorter side and uniformly sampled with 8 frames at 12 FPS." It is
interpreted as follows:

- Of a video the first 5 s are taken at 12 frames/s: 60 frames, or fewer if it is shorter.
- They are resized with their aspect ratio so that the shorter side is `size` (128, 256, 512 or 720), and reconstructed
  whole.
- The middle square of 8 frames at equal distances, from the first to the last, is compared with the original.
  (Over 60 frames these are 0, 8, 17, 25, 34, 42, 51, 59: every position in a chunk of 4 occurs twice.)
- Scores are means over a video's 8 frames, then over videos.

The paper leaves open how SSIM treats windows and channels (here: `metrics.ssim`), which 5 s are taken (here: the
first), and the filter for resizing (here: area means). Nothing is enlarged: media smaller than `size` are left out.

Pictures, about which the paper says nothing, are resized and cropped to the square before they are reconstructed, as is
customary for collections of pictures. JPEG at the bit rate of the codes is measured for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from reelmill.errors import DataError, printable
from reelmill.eval.reconstruction import fid, metrics
from reelmill.eval.reconstruction.inputs import center_crop, clip_at, picture_at
from reelmill.eval.reconstruction.jpeg import nearest_jpeg
from reelmill.eval.reconstruction.sheets import Cell, save_sheet
from reelmill.inception import Features, inception_features, load_inception
from reelmill.tokenize.vision.perceptual import load_lpips
from reelmill.tokenize.vision.tokenizer import VisionTokenizer
from reelmill.train.vision.data import as_signal
from reelmill.train.vision.media import MediaFile

FPS, SECONDS, SCORED = 12.0, 5.0, 8
SHEETS = 32
"""The most side-by-side pictures that are written of each kind."""

Frames = npt.NDArray[np.uint8]
Kind = Literal["video", "picture"]


@dataclass(frozen=True)
class Quality:
    """Means over frames: PSNR in dB, similarities, LPIPS on AlexNet; MS-SSIM from 176 pixels on.

    `bits_per_pixel` counts each code as log2(size of the codebook) bits; for JPEG it is the size of the whole file.
    """

    bits_per_pixel: float
    psnr: float
    ssim: float
    ms_ssim: float | None
    lpips: float


EMU3 = {
    128: Quality(15 / 256, psnr=21.71, ssim=0.630, ms_ssim=None, lpips=0.099),
    256: Quality(15 / 256, psnr=21.59, ssim=0.622, ms_ssim=None, lpips=0.109),
    512: Quality(15 / 256, psnr=22.69, ssim=0.690, ms_ssim=None, lpips=0.112),
    720: Quality(15 / 256, psnr=24.30, ssim=0.771, ms_ssim=None, lpips=0.110),
}
"""Table 2 of the paper: Emu3's tokenizer by size, on its 3,172 videos; 15 bits for each code of 8 x 8 x 4 pixels."""


@dataclass(frozen=True)
class FileScore:
    """One file. Flicker (`metrics.change_errors`) is measured on all frames of a video, JPEG on a picture."""

    name: str
    kind: Kind
    frames: int
    quality: Quality
    flicker_within: float | None = None
    flicker_across: float | None = None
    jpeg_quality: int | None = None
    jpeg: Quality | None = None


@dataclass(frozen=True)
class Summary:
    """All files of a kind: the means of their scores, and what is measured on all of them together."""

    files: int
    frames: int
    tokens: int
    quality: Quality
    codes_used: float
    perplexity: float
    rfid: float | None
    flicker_within: float | None
    flicker_across: float | None
    jpeg: Quality | None


class Evaluation:
    """Scores files one by one (`add`), then summarizes them (`summary`).

    `left_out` names the files that could not be scored, with reasons. With `rfid`, Inception features are computed too.
    With `sheets`, a folder, the first pictures of each kind are saved there beside their reconstructions.
    """

    def __init__(
        self, tokenizer: VisionTokenizer, size: int, *, rfid: bool = False, sheets: Path | None = None
    ) -> None:
        if size < 64 or size % tokenizer.spatial:
            raise DataError(f"size is {size}; it must be at least 64 and a multiple of {tokenizer.spatial}")
        self.tokenizer, self.size, self.sheets = tokenizer, size, sheets
        self.scores: list[FileScore] = []
        self.left_out: list[str] = []
        self._lpips = load_lpips()
        self._inception = load_inception() if rfid else None
        self._counts = {kind: np.zeros(tokenizer.codes, np.int64) for kind in ("video", "picture")}
        self._features: dict[Kind, list[tuple[Features, Features]]] = {"video": [], "picture": []}

    def add(self, source: MediaFile) -> None:
        """Score a file, or add it to `left_out`."""
        import av

        try:
            frames = clip_at(source, self.size, FPS, SECONDS) if source.is_video else picture_at(source, self.size)
        # What a decoder says about a damaged file; a folder of thousands is judged without it, and says so.
        except (DataError, OSError, ValueError, av.FFmpegError) as error:
            name = source.name or str(source.path)
            self.left_out.append(printable(str(error) if isinstance(error, DataError) else f"{name}: {error}"))
            return
        name = printable(Path(source.name or source.path).name)
        self.scores.append(self._video(name, frames) if source.is_video else self._picture(name, frames))

    def summary(self, kind: Kind) -> Summary | None:
        """The summary of all files of a kind, or None if there are none."""
        scores = [score for score in self.scores if score.kind == kind]
        if not scores:
            return None
        used, perplexity = metrics.code_use(self._counts[kind])
        features = self._features[kind]
        frames = sum(min(score.frames, SCORED) for score in scores)
        distance = None
        if features and frames > 1:
            distance = fid.frechet_distance(*(np.concatenate(side) for side in zip(*features, strict=True)))
        return Summary(
            files=len(scores),
            frames=frames,
            tokens=int(self._counts[kind].sum()),
            quality=_mean([score.quality for score in scores]),
            codes_used=used,
            perplexity=perplexity,
            rfid=distance,
            flicker_within=_mean_of([score.flicker_within for score in scores]),
            flicker_across=_mean_of([score.flicker_across for score in scores]),
            jpeg=_mean([score.jpeg for score in scores if score.jpeg is not None]) if kind == "picture" else None,
        )

    def _video(self, name: str, frames: Frames) -> FileScore:
        codes = self.tokenizer.encode(frames)
        decoded = center_crop(self.tokenizer.decode(codes, frames.shape[:3]), self.size)
        rate = self._rate(codes, frames)
        original = center_crop(frames, self.size)
        within, across = metrics.change_errors(original, decoded, self.tokenizer.temporal)
        chosen = np.linspace(0, len(frames) - 1, min(SCORED, len(frames))).round().astype(int)
        quality = self._compare("video", original[chosen], decoded[chosen], rate)
        self._counts["video"] += np.bincount(codes.ravel(), minlength=self.tokenizer.codes)
        score = FileScore(name, "video", len(frames), quality, _number(within), _number(across))
        above = [(f"{score.name}\nframe {frame}", original[frame]) for frame in chosen]
        below = [("", decoded[frame]) for frame in chosen]
        below[0] = (_label(self.tokenizer.name, quality), decoded[0])
        self._save(score, [above, below])
        return score

    def _picture(self, name: str, original: Frames) -> FileScore:
        codes = self.tokenizer.encode_image(original[0])
        decoded = self.tokenizer.decode_image(codes)[None]
        quality = self._compare("picture", original, decoded, self._rate(codes, original))
        self._counts["picture"] += np.bincount(codes.ravel(), minlength=self.tokenizer.codes)
        jpeg = nearest_jpeg(original[0], quality.bits_per_pixel)
        reference = self._quality(original, jpeg.decoded[None], jpeg.bits_per_pixel)
        score = FileScore(name, "picture", 1, quality, jpeg_quality=jpeg.quality, jpeg=reference)
        row: list[Cell] = [
            (score.name, original[0]),
            (_label(self.tokenizer.name, quality), decoded[0]),
            (_label(f"JPEG quality {jpeg.quality}", reference), jpeg.decoded),
        ]
        self._save(score, [row])
        return score

    def _compare(self, kind: Kind, original: Frames, decoded: Frames, rate: float) -> Quality:
        if self._inception is not None:
            pair = (
                inception_features(self._inception, original),
                inception_features(self._inception, decoded),
            )
            self._features[kind].append(pair)
        return self._quality(original, decoded, rate)

    def _quality(self, original: Frames, decoded: Frames, rate: float) -> Quality:
        with torch.inference_mode():
            distances = self._lpips(as_signal(original), as_signal(decoded))
        multi_scale = self.size >= metrics.MS_SSIM_MIN_SIDE
        return Quality(
            bits_per_pixel=rate,
            psnr=float(metrics.psnr(original, decoded).mean()),
            ssim=float(metrics.ssim(original, decoded).mean()),
            ms_ssim=float(metrics.ms_ssim(original, decoded).mean()) if multi_scale else None,
            lpips=float(distances.mean()),
        )

    def _rate(self, codes: npt.NDArray[np.int32], frames: Frames) -> float:
        return codes.size * math.log2(self.tokenizer.codes) / math.prod(frames.shape[:3])

    def _save(self, score: FileScore, rows: Sequence[Sequence[Cell]]) -> None:
        number = sum(other.kind == score.kind for other in self.scores)
        if self.sheets is not None and number < SHEETS:
            save_sheet(rows, self.sheets / f"{score.kind}-{number:02d}-{Path(score.name).stem}.png")


def _label(name: str, quality: Quality) -> str:
    return (
        f"{name}, {quality.bits_per_pixel:.3f} bit/pixel\n"
        f"{quality.psnr:.2f} dB  SSIM {quality.ssim:.3f}  LPIPS {quality.lpips:.3f}"
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean_of(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _mean(qualities: Sequence[Quality]) -> Quality:
    names = [field.name for field in fields(Quality)]
    return Quality(**{name: _mean_of([getattr(quality, name) for quality in qualities]) for name in names})  # type: ignore[arg-type]
