"""Malformed files of every kind, some at a time beside a sound one: each costs itself, the sound one nothing."""

import io
import shutil
from contextlib import contextmanager

from dumps import jpeg, light_recipe
from odd_media import film, picture
from odd_pictures import animation
from PIL import Image
from videos import textured

from reelmill.errors import is_utf8
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.ledger.verify import verify
from torture.campaign import Tried
from torture.damage import mutated
from torture.processes import command, complaint, ended, start

AT_A_TIME = 40
LIMITS = ("out_of_memory:", "timeout:")
"""Reasons of class `machine`: on another machine the file might do."""
CODECS = {
    "mp4": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "wmv": "wmv2", "flv": "flv", "ts": "libx264",
    "mov": "libx264", "3gp": "mpeg4", "mxf": "mpeg2video", "ivf": "libvpx", "m2v": "mpeg2video",
}  # fmt: skip
PICTURES = {"png": "PNG", "gif": "GIF", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "jpg": "JPEG"}


def seeds(place):
    """Sound files by suffix."""
    place.mkdir(parents=True)
    for suffix, codec in CODECS.items():
        film(place / f"v.{suffix}", codec=codec, fps=25 if codec == "mpeg2video" else 10)
    for suffix, form in PICTURES.items():
        data = io.BytesIO()
        Image.fromarray(textured(1, 96, 128)).save(data, form)
        (place / f"i.{suffix}").write_bytes(data.getvalue())
    animation(place / "moves.gif", [picture()] * 3, 100)
    (place / "t.txt").write_text("The mill grinds slowly. " * 20)
    (place / "side.json").write_text('{"alt": "words", "licence": "CC0-1.0", "url": "https://x.test/1"}')
    return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


@contextmanager
def campaign(place):
    sound = seeds(place / "seeds")
    recipe = light_recipe(place / "light.toml")
    dump, out = place / "dump", place / "out"
    wanted = {}

    def attempt(chance):
        for folder in (dump, out):
            shutil.rmtree(folder, ignore_errors=True)
        dump.mkdir()
        (dump / "sound.jpg").write_bytes(jpeg(1))
        tried = Tried()
        for number in range(AT_A_TIME):
            name = chance.choice([*sound])
            data = mutated(sound[name], chance)
            (dump / f"{number}.{name.partition('.')[2]}").write_bytes(data)
            if name == "side.json":  # a broken sidecar beside a sound picture
                (dump / f"{number}.png").write_bytes(sound["i.png"])
            tried.tries += 1
        arguments = ("curate", dump, "--out", out, "--recipe", recipe, "--executor", "inline")
        code = ended(start(command, arguments, said=place / "said"))
        tried.failures += [
            f"{len(list(dump.iterdir()))} files: {said}" for said in [complaint(code, place / "said")] if said
        ]
        if code == 0:
            tried.failures += judged(out, dump, wanted)
        return tried

    yield attempt


def judged(out, dump, wanted):
    """What is wrong with the run folder of the dump; `wanted` gets the row of the sound file at first."""
    with LedgerQueries(out) as ledger:
        items = {row["uri"]: row for row in ledger.rows("SELECT * FROM items")}
    names = {path.name for path in dump.iterdir() if path.suffix != ".json"}
    found = [f"no row for {name}" for name in sorted(names - items.keys())]
    for uri, row in items.items():
        is_limit = (row["reason"] or "").startswith(LIMITS)
        if row["status"] == "refused" and (
            row["reason_class"] != ("machine" if is_limit else "item") or not row["reason"]
        ):
            found.append(f"{uri} refused as {row['reason_class']}: {row['reason']!r}")
        if not is_utf8(repr(row)):
            found.append(f"{uri}: text that is no UTF-8")
    sound = {name: items["sound.jpg"][name] for name in ("status", "sha256", "width", "height", "n_samples")}
    if wanted.setdefault("sound", sound) != sound:
        found.append(f"the sound file became {sound}")
    return found + verify(RunFolder(out)).problems
