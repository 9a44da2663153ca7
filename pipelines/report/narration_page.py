"""A narrated sample as a page, for `explain --page` and `report`: pictures, text and sound in order of time."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from markupsafe import Markup

from reelmill.curation.clip_messages import Decoded
from reelmill.errors import DataError
from reelmill.files import write_text
from reelmill.isolation.parent import ItemFailed
from reelmill.media.audio import RATE, Samples
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report.explain import explain, lines
from reelmill.pipelines.report.pictures import Pictures, small, webp

PIXELS = 320 * 240
PICTURE_BYTES = 30_000
SOUND_S = 60.0
"""Seconds of sound in a page, at most."""
SOUND_BITS = 24_000
REPORT_SAMPLES, REPORT_ENTRIES = 2, 60
"""Samples of each status in a report, and entries of each, at most."""
ANNOTATED = ("segment", "scene", "summary")
_STYLE = """body{font:17px/1.5 Georgia,serif;max-width:44rem;margin:2rem auto;padding:0 1rem}
body{background:#fbfaf7;color:#22252a}h1{font-size:1.3rem}figure{margin:1rem 0}img{max-width:100%;border-radius:3px}
time,small{color:#62676f;font:13px sans-serif;margin-right:.6em}audio{width:100%}
.dropped img{opacity:.35}.dropped{color:#9a4a30}.note{color:#4a5560;font-style:italic}"""


def write_page(out: Path, found: Mapping[str, Any], target: Path) -> None:
    """Write the page of what `explain` found. DataError for a sample that tells nothing."""
    if not found["narration"]:
        raise DataError("this sample has neither key frames nor words; a page is for recipes such as emu3_5")
    folder = RunFolder(out).require()
    facts, verdict = found["facts"], found["verdict"]
    with Pictures(folder, load_recipe(folder.root).score) as pictures:
        body, sound = _body(found["narration"], facts, pictures), _sound(facts, pictures)
    heard = f'<audio controls src="{sound}"></audio>\n' if sound else ""
    about = "<br>".join(html.escape(line) for line in lines(found))
    title = html.escape(f"{facts['uri']}: {verdict['status'] or 'undecided'}")
    write_text(
        target,
        f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1><p><small>{about}</small></p>\n{heard}{body}\n</body></html>\n",
    )


def told(ledger: LedgerQueries, out: Path, pictures: Pictures) -> dict[str, list[dict[str, Any]]]:
    """Narrated samples for a report, by status: uri, rule, entries as HTML, sound as a data URI."""
    found: dict[str, list[dict[str, Any]]] = {}
    for status in ("kept", "rejected"):
        rows = ledger.rows(
            """SELECT sample_id, uri, rule FROM samples WHERE status = $1 AND (keyframes IS NOT NULL OR kind = 'audio')
            ORDER BY coalesce(n_words = 0, false), kind DESC, sample_id LIMIT $2""",
            [status, REPORT_SAMPLES],
        )
        found[status] = []
        for row in rows:
            known = explain(out, row["sample_id"])
            body = Markup(_body(known["narration"][:REPORT_ENTRIES], known["facts"], pictures))  # noqa: S704  (escaped)
            found[status].append({**row, "body": body, "sound": _sound(known["facts"], pictures)})
    return found


def _body(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], pictures: Pictures) -> str:
    """Entries of a narration as HTML."""
    shown = _pictures(rows, facts, pictures)
    return "\n".join(_entry(row, shown) for row in rows)


def _pictures(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], pictures: Pictures) -> dict[float, str]:
    """Second to data URI of each key frame, decoded anew in the untrusted child; none where that fails."""
    seconds = [row["at_s"] for row in rows if row["what"] == "picture"]
    if not seconds:
        return {}
    width, height = small(facts["width"], facts["height"], PIXELS)
    size = {"fps": 1.0, "frames": 1, "width": width, "height": height}
    clips = [{"key": str(number), "start_s": at_s, **size} for number, at_s in enumerate(seconds)]

    def keep(decoded: Iterator[Decoded]) -> dict[float, str]:
        return {seconds[int(clip["key"])]: webp(frames[0], PICTURE_BYTES) for clip, frames in decoded}

    try:
        return pictures.decode("video", facts["item_id"], clips, keep)
    except ItemFailed:
        return {}


def _sound(facts: Mapping[str, Any], pictures: Pictures) -> str:
    """The beginning of a sample's sound as a data URI; empty where there is none or it cannot be decoded."""
    try:
        samples = pictures.sound(facts["item_id"])
    except ItemFailed:
        return ""
    first = round(facts["start_s"] * RATE)
    stop = round(min(facts["end_s"], facts["start_s"] + SOUND_S) * RATE)
    heard = samples[first:stop]
    return f"data:audio/ogg;base64,{base64.b64encode(_opus(heard)).decode('ascii')}" if heard.any() else ""


def _opus(samples: Samples) -> bytes:
    """An Ogg Opus file."""
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        stream.bit_rate = SOUND_BITS
        for at in range(0, len(samples), RATE):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None, at : at + RATE]), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


def _entry(row: Mapping[str, Any], pictures: Mapping[float, str]) -> str:
    when = f"<time>{row['at_s']:.1f} s</time>"
    why = f"<small>{html.escape(row['dropped'])}</small>" if row["dropped"] else ""
    kind = ' class="dropped"' if row["dropped"] else ""
    if row["what"] == "picture":
        picture = pictures.get(row["at_s"])
        shown = f'<img src="{picture}" alt="key frame">' if picture else "(no picture)"
        return f"<figure{kind}>{when}{why}<br>{shown}</figure>"
    if row["what"] in ANNOTATED and not row["dropped"]:
        kind, why = ' class="note"', f"<small>{row['what']}</small>"
    text = html.escape(row["text"] or "")
    return f"<p{kind}>{when}{why}{f'<del>{text}</del>' if row['dropped'] else text}</p>"
