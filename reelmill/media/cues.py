"""Subtitles as cues, inside the untrusted child: a track of text in a container, or a SubRip or WebVTT file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard, Disposition

from reelmill.errors import Refused
from reelmill.isolation import wire
from reelmill.media.audio import pictures_begin_s, sound_demuxer
from reelmill.media.limits import Limits
from reelmill.media.source import Source
from reelmill.media.subtitles import MAX_CUE_CHARACTERS, MAX_CUES, decode_subtitles, parse_subtitles

TRACK_JOB = "reelmill.media.cues:track"
FILE_JOB = "reelmill.media.cues:file"
MAX_FILE_BYTES = 16 * 1024**2
_TEXT = ("srt", "subrip", "mov_text", "webvtt", "ass", "ssa", "text")
"""Codecs whose packets are text; others are pictures of it."""
_ASS_FIELDS = 8
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")


def track(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The cues of a file's track of subtitles, on the clock of the pictures: its default one, else the first.

    Yields `{"type": "language", "language"}` where there is a track, then `{"type": "cue", "start_s", "end_s",
    "text"}` in order. Raises Refused.
    """
    Limits.of(options).check_video_bytes(source.size)
    with source.open() as stream:
        try:
            container = av.open(stream, mode="r", format=sound_demuxer(stream), metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            raise Refused(f"cannot_open: {' '.join(str(error).split())[:200]}") from None
        try:
            yield from _track(container)
        finally:
            container.close()


def file(source: Source, options: dict[str, Any]) -> Iterator[wire.Message]:
    """The cues of a SubRip or WebVTT file, as `track` gives them; the language is not known. Raises Refused."""
    most = min(MAX_FILE_BYTES, int(options.get("max_bytes", MAX_FILE_BYTES)))
    if source.size > most:
        raise Refused(f"too_large: {source.size} bytes of subtitles, allowed {most}")
    with source.open() as stream:
        cues = parse_subtitles(decode_subtitles(stream.read()))
    yield {"type": "language", "language": None}, {}
    for cue in cues:
        yield {"type": "cue", "start_s": cue.start_s, "end_s": cue.end_s, "text": cue.text}, {}


def _track(container: InputContainer) -> Iterator[wire.Message]:
    known = [stream for stream in container.streams.subtitles if stream.codec_context is not None]
    texts = [stream for stream in known if stream.codec_context.name in _TEXT]
    if not texts:
        return
    begins_s = pictures_begin_s(container) or 0.0
    chosen = next((stream for stream in texts if stream.disposition & Disposition.default), texts[0])
    for stream in container.streams:
        stream.discard = Discard.default if stream.index == chosen.index else Discard.all
    language = str(chosen.metadata.get("language", ""))[:16]
    is_word = language.isascii() and language.isalpha() and language != "und"
    yield {"type": "language", "language": language if is_word else None}, {}
    tick = float(chosen.time_base or 0)
    for packet in islice(container.demux(chosen), MAX_CUES):
        text = _text(bytes(packet), chosen.codec_context.name)
        start_s = (packet.pts or 0) * tick - begins_s
        end_s = start_s + (packet.duration or 0) * tick
        if text and end_s > max(start_s, 0.0):
            yield {"type": "cue", "start_s": max(start_s, 0.0), "end_s": end_s, "text": text}, {}


def _text(data: bytes, codec: str) -> str:
    """The words of a packet, without tags, at most MAX_CUE_CHARACTERS."""
    if codec == "mov_text":  # 3GPP TS 26.245, 5.17: a length, the text, then boxes of style
        data = data[2 : 2 + int.from_bytes(data[:2], "big")]
    said = data.decode("utf-8", "replace").replace("\0", "\ufffd")
    if codec in ("ass", "ssa"):
        said = said.split(",", _ASS_FIELDS)[-1].replace("\\N", " ").replace("\\n", " ").replace("\\h", " ")
    return " ".join(_TAG.sub("", said).split())[:MAX_CUE_CHARACTERS]
