"""What files state of their rights: each block in files made by hand, and the rows of items that have them."""

import io
import json
import struct
import zlib

import av
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from videos import scene_frames, write_video

from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import ItemScorer
from reelmill.media.rights import Rights, has_c2pa, image_rights
from reelmill.media.source import Source
from reelmill.pipelines.curate import recipes

BY = "https://creativecommons.org/licenses/by/4.0/"
LISTED = "<rdf:Alt><rdf:li xml:lang='x-default'>A &amp; B</rdf:li></rdf:Alt>"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))


def xmp(inside="", attributes=""):
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description rdf:about="" '
        f"{attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def saved(kind, **options):
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def with_segment(jpeg, marker, data):
    return jpeg[:2] + segment(marker, data) + jpeg[2:]


def exif(text):
    block = Image.Exif()
    block[0x8298] = text
    return block


def iptc(text):
    record = b"\x1c\x02\x74" + struct.pack(">H", len(text)) + text
    resource = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(record)) + record
    return b"Photoshop 3.0\x00" + resource + b"\0" * (len(record) % 2)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_texts(**texts):
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    return info


JUMBF = b"JP\0\1\0\0\0\1\0\0\0\x40jumb\0\0\0\x38jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\3c2pa\0"
PNG, JPEG, WEBP = saved("PNG"), saved("JPEG"), saved("WEBP")


def rights_of(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    with Image.open(path) as file:
        return image_rights(file, Source(str(path), 0, len(data)))


@pytest.mark.parametrize(
    ("data", "licence", "copyright"),
    [
        (JPEG, None, None),
        (saved("JPEG", exif=exif("(c) 2020 A. Miller")), None, "(c) 2020 A. Miller"),
        (with_segment(JPEG, 0xED, iptc(b"A. Miller, all rights reserved")), None, "A. Miller, all rights reserved"),
        (saved("JPEG", xmp=xmp(f'<cc:license rdf:resource="{BY}"/>')), BY, None),
        (saved("WEBP", xmp=xmp(attributes=f"xmpRights:WebStatement='{BY}'")), BY, None),
        (saved("PNG", pnginfo=with_texts(Copyright="A. Miller", License="CC0")), "CC0", "A. Miller"),
        (saved("JPEG", xmp=xmp(f"<dc:rights>{LISTED}</dc:rights>")), None, "A & B"),
        (saved("JPEG", xmp=xmp(attributes=f'xmpRights:UsageTerms="{"x" * 1900}"')), "x" * 500, None),
    ],
)
def test_what_blocks_of_a_picture_state(tmp_path, data, licence, copyright):
    assert rights_of(tmp_path, data) == Rights(licence, copyright, c2pa=False)


@pytest.mark.parametrize(
    "data",
    [
        with_segment(JPEG, 0xEB, JUMBF),
        PNG[:33] + chunk(b"caBX", b"jumb") + PNG[33:],
        WEBP + b"C2PA" + struct.pack("<I", 4) + b"jumb",
        struct.pack(">I4s4s", 12, b"ftyp", b"isom")
        + struct.pack(">I4s", 28, b"uuid") + bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"c2pa",
    ],
    ids=["jpeg", "png", "webp", "mp4"],
)  # fmt: skip
def test_content_credentials_are_seen_and_broken_files_end(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    assert has_c2pa(Source(str(path), 0, len(data)))
    for size in (0, 3, 11, len(data) // 2):
        path.write_bytes(data[:size])
        has_c2pa(Source(str(path), 0, size))


def test_files_without_credentials_and_blocks_that_lie(tmp_path):
    endless = struct.pack(">I4s4s", 12, b"ftyp", b"isom") + struct.pack(">I4s", 0, b"free") * 9
    for data in (JPEG, PNG, WEBP, endless, b"", b"RIFF", with_segment(JPEG, 0xEB, b"JP\0\1")):
        (tmp_path / "file").write_bytes(data)
        assert not has_c2pa(Source(str(tmp_path / "file"), 0, len(data)))
    deep = xmp("<dc:rights " + "<dc:rights " * 20_000)  # 0.2 MB; a pattern that backtracks would take minutes
    broken = saved("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x82\x98\0\x02\xff\xff\xff\xff\0\0\0\1")
    for data in (PNG[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + deep) + PNG[33:], broken):
        assert rights_of(tmp_path, data) == Rights(None, None, c2pa=False)


def test_rows_say_what_is_stated_and_by_whom(tmp_path):
    stated = saved("JPEG", xmp=xmp(f'<cc:license rdf:resource="{BY}"/>'), exif=exif("A. Miller"))
    (tmp_path / "file.jpg").write_bytes(stated)
    (tmp_path / "beside.jpg").write_bytes(with_segment(stated, 0xEB, JUMBF))
    (tmp_path / "beside.json").write_text(json.dumps({"licence": "CC0-1.0"}))
    (tmp_path / "nothing.jpg").write_bytes(JPEG)
    write_video(tmp_path / "clip.mp4", scene_frames([(1, 30)]))
    with av.open(tmp_path / "clip.mp4") as plain, av.open(tmp_path / "film.mp4", "w") as film:
        film.metadata["copyright"] = "The Mill Company"
        stream = film.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                film.mux(packet)
    recipe = recipes.load("sample", ["score.scorers={}", "rules={}"])
    scorer = ItemScorer(recipe.score, {})
    rows = {}
    for name in ("file.jpg", "beside.jpg", "nothing.jpg", "film.mp4"):
        path = tmp_path / name
        known = {"unit": 0, "item_id": name, "uri": name, "path": str(path), "offset": 0, "size": path.stat().st_size}
        sidecar = path.with_suffix(".json")
        if sidecar.is_file():
            known |= {"json_path": str(sidecar), "json_offset": 0, "json_size": sidecar.stat().st_size}
        kind = "video" if name.endswith("mp4") else "image"
        row, _ = scorer.score({**dict.fromkeys(PLAN.names), **known, "kind": kind})
        rows[name] = tuple(row[column] for column in ("licence", "licence_from", "copyright", "c2pa"))
    scorer.close()
    assert rows == {
        "file.jpg": (BY, "file", "A. Miller", False),
        "beside.jpg": ("CC0-1.0", "sidecar", "A. Miller", True),
        "nothing.jpg": (None, None, None, False),
        "film.mp4": (None, None, "The Mill Company", False),
    }
