"""What a captioning model sees: evenly spaced frames of a sample, decoded in the untrusted child, as JPEG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from reelmill.curation.captions.config import CaptionFrames
from reelmill.curation.captions.contract import Question, Row
from reelmill.curation.clip_messages import Decoded, decode_clips
from reelmill.curation.clips import IMAGE_JOB, VIDEO_JOB
from reelmill.curation.scenes import divide
from reelmill.isolation.parent import Child
from reelmill.media.geometry import fit
from reelmill.media.source import Place

JOBS = {"video": VIDEO_JOB, "image": IMAGE_JOB}

Message = dict[str, Any]


@dataclass(frozen=True)
class SampleFrames:
    """JPEG files of one sample: a list per part, in the order of time."""

    sample_id: str
    parts: list[list[bytes]]


def clips(row: Row, config: CaptionFrames) -> list[dict[str, Any]]:
    """The clips that the child is asked for: one per part. Frames lie in the middles of equal intervals.

    A clip with fewer native frames than asked for gives those that it has.
    """
    width, height = fit(row["width"], row["height"], config.short_side, 3 * config.short_side)
    size = {"width": width, "height": height}
    if row["kind"] == "image":
        return [{"key": f"{row['sample_id']}/0", **size}]
    found = []
    for n, (start_s, end_s) in enumerate(divide(row["start_s"], row["end_s"], config.part_s)):
        native = math.floor((end_s - start_s) * row["fps"] + 1e-6)
        frames = max(min(config.frames, native), 1)
        step_s = max(end_s - start_s, 1e-3) / frames
        first_s = start_s + step_s / 2
        found.append(
            {"key": f"{row['sample_id']}/{n}", "start_s": first_s, "fps": 1 / step_s, "frames": frames, **size}
        )
    return found


def decode_frames(
    child: Child, source: Place, rows: Sequence[Row], config: CaptionFrames, options: Mapping[str, Any]
) -> list[SampleFrames]:
    """Decode the samples `rows` of one item, all of one kind. Raises ItemFailed."""
    wanted = [clip for row in rows for clip in clips(row, config)]

    def pictures(decoded: Iterator[Decoded]) -> dict[str, list[bytes]]:
        return {clip["key"]: [jpeg(frame, config.jpeg_quality) for frame in frames] for clip, frames in decoded}

    made = decode_clips(child, JOBS[rows[0]["kind"]], source, options, wanted, pictures)
    return [SampleFrames(row["sample_id"], [made[clip["key"]] for clip in clips(row, config)]) for row in rows]


def jpeg(frame: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A frame, uint8 [H, W, 3], as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def conversations(question: Question) -> list[list[Message]]:
    """One conversation per part, as OpenAI's chat API has them."""
    return [[chat_message(part, question.prompt)] for part in question.parts]


def chat_message(pictures: Sequence[bytes], text: str) -> Message:
    """One user's turn of OpenAI's chat format: the pictures as data URIs, then the text."""
    images = [f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}" for picture in pictures]
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    return {"role": "user", "content": [*content, {"type": "text", "text": text}]}
