"""The corpus' names, sidecars and tars: what a dump says beside its media."""

import io
import json
import tarfile
import unicodedata
from dataclasses import dataclass

from corpus_case import HEIGHT, WIDTH
from odd_media import picture
from PIL import Image


@dataclass(frozen=True)
class Said:
    """What `items` must say of a picture: its caption, its licence, the keyword of what cannot be used."""

    uri: str
    alt: str | None = None
    licence: str | None = None
    problem: str | None = None


def jpeg():
    """A picture's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0, WIDTH, HEIGHT)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


NAMES = (
    "plain.jpg", "UPPER.JPG", "two.dots.jpg", "with space.jpg", " leading.jpg", "-dash.jpg", "--option.jpg",
    "#hash.jpg", "per%20cent.jpg", "question?.jpg", "star*.jpg", "[bracket].jpg", "quote'.jpg", 'double".jpg',
    "back\\slash.jpg",
    "line\nbreak.jpg", "tab\t.jpg", "esc\x1b[2J.jpg", "semi;colon.jpg", "dollar$HOME.jpg", "tick`.jpg", "pipe|.jpg",
    "水车.jpg", "мельница.jpg", "mühle.jpg", "طاحونة.jpg", "🎡.jpg", "👩‍👩‍👧.jpg", "rtl\u202egpj.jpg",
    "zero\u200bwidth.jpg", "a" * 246 + ".jpg", "CON.jpg", "nul.jpg", "~tilde.jpg", "{brace}.jpg", "a=b&c.jpg",
)  # fmt: skip
SIDECARS = {
    "caption": ({"caption": "A mill."}, "A mill.", None, None),
    "alt": ({"alt": "A mill."}, "A mill.", None, None),
    "capital": ({"Caption": "A mill."}, "A mill.", None, None),
    "shouted": ({"TEXT": "A mill."}, "A mill.", None, None),
    "listed": ({"caption": ["A mill.", "Another."]}, "A mill.", None, None),
    "captions": ({"captions": [{"caption": "A mill."}]}, "A mill.", None, None),
    "described": ({"title": "A mill", "description": "It grinds."}, "A mill. It grinds.", None, None),
    "licence": ({"alt": "A mill.", "license": {"name": "CC0"}}, "A mill.", "CC0", None),
    "licences": ({"alt": "A mill.", "licence": ["CC0", "MIT"]}, "A mill.", "CC0; MIT", None),
    "numbered": ({"alt": "A mill.", "license": 4}, "A mill.", "4", None),
    "invisible": ({"alt": "A mi\u00adll\u2060 gr\u200einds."}, "A mill grinds.", None, None),
    "emoji": ({"alt": "👩‍👩‍👧 at the mill"}, "👩‍👩‍👧 at the mill", None, None),
    "number": ({"caption": 7}, None, None, "unusable_caption"),
    "broken": (b"{", None, None, "malformed_json"),
    "latin": ('{"alt": "Mühle"}'.encode("latin-1"), None, None, "malformed_json"),
    "list": ([1], None, None, "malformed_json"),
}
SUFFIXES = (".jpg.json", ".info.json", ".json", ".jpg.txt", ".txt")


def write(folder):
    """Write pictures with odd names, sidecars of all kinds and tars; returns what is to be said of them."""
    data, said = jpeg(), []
    for place in ("names", "said", "forms"):
        (folder / place).mkdir(parents=True)
    for name in NAMES:
        (folder / "names" / name).write_bytes(data)
        (folder / "names" / f"{name[:-4]}.json").write_text(json.dumps({"alt": f"of {len(name)}"}))
        said.append(Said(f"names/{name}", f"of {len(name)}"))
    for name, (content, *expected) in SIDECARS.items():
        (folder / f"said/{name}.jpg").write_bytes(data)
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / f"said/{name}.json").write_bytes(raw)
        said.append(Said(f"said/{name}.jpg", *expected))
    for n, suffix in enumerate(SUFFIXES):
        (folder / f"forms/{n}.jpg").write_bytes(data)
        text = json.dumps({"alt": "A mill."}) if suffix.endswith("json") else "A mill."
        (folder / f"forms/{n}{suffix}").write_text(text)
        said.append(Said(f"forms/{n}.jpg", "A mill."))
    composed, apart = (unicodedata.normalize(form, "müh") for form in ("NFC", "NFD"))
    (folder / f"forms/{composed}.jpg").write_bytes(data)
    (folder / f"forms/{apart}.json").write_text(json.dumps({"alt": "A mill."}))
    said.append(Said(f"forms/{composed}.jpg", "A mill."))
    return [*said, *_tars(folder, data)]


def _tars(folder, data):
    """Members in pairs, sorted by type, with JSON and with text."""
    caption = json.dumps({"alt": "A mill."}).encode()
    pairs = [(f"{n}.jpg", data) for n in range(4)]
    for name, suffix, text, sort in (
        ("pairs.tar", "json", caption, lambda member: member[0]),
        ("by-type.tar", "json", caption, lambda member: member[0][::-1]),
        ("texts.tar", "txt", b"A mill.", lambda member: member[0]),
        ("texts-by-type.tar", "txt", b"A mill.", lambda member: member[0][::-1]),
    ):
        members = [*pairs, *((f"{n}.{suffix}", text) for n in range(4))]
        with tarfile.open(folder / name, "w") as tar:
            for member, content in sorted(members, key=sort):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        yield from (Said(f"{name}/{n}.jpg", "A mill.") for n in range(4))
