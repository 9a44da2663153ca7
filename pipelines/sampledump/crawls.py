"""What lies in the dump packed, one of each: a crawl's pages with their pictures, a table of pictures, a zip, lines of
texts in four languages, and subtitles beside a video.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.pipelines.sampledump import landscapes as land
from reelmill.pipelines.sampledump import mills, texts, things
from reelmill.pipelines.sampledump.facts import ItemFact, SampleFact
from reelmill.pipelines.sampledump.images import saved

SITE = "https://crawl.example.org/story"
DATE = "2024-01-02T03:04:05Z"
LICENCE = "https://creativecommons.org/publicdomain/zero/1.0/"
WARC, TABLE, ZIP, LINES = "crawl/story.warc.gz", "crawl/pictures.parquet", "crawl/stills.zip", "crawl/texts.jsonl"
SUBTITLES = {
    "videos/mills/windmill.en.vtt": """\
WEBVTT

00:00:00.500 --> 00:00:02.500
The wind has been turning this mill since morning.

00:00:03.000 --> 00:00:05.500
Before it turns to the west, the miller takes in the sails.
"""
}
SIDE = (640, 480)
_TRAIN, _BALLOON = "A red train passes brown hills.", "A balloon over hills in the morning."


@dataclass(frozen=True)
class Packed:
    """A packed file: its bytes and what is known of its members."""

    data: bytes
    facts: tuple[ItemFact, ...]


@cache
def packed() -> dict[str, Packed]:
    """Each packed file by its place in the dump."""
    return {WARC: _warc(), TABLE: _table(), ZIP: _zip(), LINES: _lines()}


def _image(uri: str, caption: str = "") -> ItemFact:
    width, height = SIDE
    return ItemFact(uri, "image", width=width, height=height, samples=(SampleFact(0.0, 0.0),), caption=caption)


def _text(uri: str) -> ItemFact:
    return ItemFact(uri, "text", samples=(SampleFact(0.0, 0.0),))


def _wheel() -> bytes:
    return saved(mills.waterwheel(*SIDE, seed=501)(0.7), "JPEG", quality=85)


def _boat() -> bytes:
    return saved(land.sunset_boat(*SIDE, seed=502)(1.0), "JPEG", quality=85)


def _train() -> bytes:
    return saved(things.train(*SIDE, land.NOON, seed=503)(1.2), "JPEG", quality=85)


def _balloon() -> bytes:
    return saved(things.balloon(*SIDE, land.NOON, seed=504)(0.8), "JPEG", quality=85)


PICTURES: dict[str, Callable[[], bytes]] = {"wheel": _wheel, "boat": _boat, "train": _train, "balloon": _balloon}
"""The pictures, as JPEG, by their names."""
CAPTIONS = {
    "wheel": "A wooden wheel under a grey wall",
    "boat": "A boat at sunset",
    "train": _TRAIN,
    "balloon": _BALLOON,
}


def _warc() -> Packed:
    """A page with two pictures of the same crawl, one that is not in it and a logo; a page without any."""
    paragraphs = [f"<p>{paragraph}</p>" for paragraph in texts.RIVER.split("\n\n")[1:]]
    paragraphs.insert(2, '<p><img src="wheel.jpg" alt="A wooden wheel under a grey wall"></p>')
    paragraphs.insert(4, '<p><img src="boat.jpg" alt="A boat"><img src="gone.jpg"><img src="/logo.png"></p>')
    words = f"<p>{texts.MANY_SCRIPTS.splitlines()[2]}</p><p>{texts.PONDS}</p>"
    records = [
        (f"{SITE}/river.html", "text/html; charset=utf-8", _page("The river above the mill", "".join(paragraphs)), ""),
        (f"{SITE}/wheel.jpg", "image/jpeg", _wheel(), ".jpg"),
        (f"{SITE}/boat.jpg", "image/jpeg", _boat(), ".jpg"),
        (f"{SITE}/ponds.html", "text/html; charset=utf-8", _page("Ponds", words), ""),
    ]
    data, facts = b"", []
    for url, declared, payload, suffix in records:
        uri = f"{WARC}/{len(data)}{suffix or '.txt'}"
        facts.append(_image(uri) if suffix else _text(uri))
        data += gzip.compress(_record(url, declared, payload), mtime=0)
    return Packed(data, tuple(facts))


def _page(title: str, body: str) -> bytes:
    menu = '<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About</a></li></ul></nav>'
    head = f'<meta charset="utf-8"><title>{title}</title><link rel="license" href="{LICENCE}">'
    return (
        f"<!DOCTYPE html>\n<html><head>{head}</head><body>{menu}<main><h1>{title}</h1>{body}</main></body></html>\n"
    ).encode()


def _record(url: str, declared: str, payload: bytes) -> bytes:
    """A response as ISO 28500 has it."""
    block = f"HTTP/1.1 200 OK\r\nContent-Type: {declared}\r\n\r\n".encode() + payload
    said = {
        "WARC-Type": "response",
        "WARC-Target-URI": url,
        "WARC-Date": DATE,
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>",
        "WARC-Payload-Digest": f"sha256:{hashlib.sha256(payload).hexdigest()}",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(block)),
    }
    header = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return b"WARC/1.0\r\n" + header.encode() + b"\r\n" + block + b"\r\n\r\n"


def _table() -> Packed:
    """A picture in a cell, as `datasets` writes it."""
    row = {"image": {"bytes": _train(), "path": "train.jpg"}, "caption": _TRAIN, "license": "CC0-1.0"}
    row |= {"url": f"{SITE}/train.jpg"}
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), out)
    return Packed(out.getvalue(), (_image(f"{TABLE}/00000000.jpg", _TRAIN),))


def _zip() -> Packed:
    """A picture and its sidecar, deflated."""
    known = {"caption": _BALLOON, "licence": "CC0-1.0", "url": f"{SITE}/balloon.jpg"}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("balloon.jpg", _balloon()), ("balloon.json", json.dumps(known).encode())):
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 6)), data, zipfile.ZIP_DEFLATED)
    return Packed(out.getvalue(), (_image(f"{ZIP}/balloon.jpg", _BALLOON),))


def _lines() -> Packed:
    data, facts = b"", []
    for language, text in texts.LANGUAGES.items():
        facts.append(_text(f"{LINES}/{len(data)}.txt"))
        row = {"text": text, "url": f"{SITE}/{language}", "license": "CC0-1.0", "date": DATE}
        data += json.dumps(row, ensure_ascii=False).encode() + b"\n"
    return Packed(data, tuple(facts))
