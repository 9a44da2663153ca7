"""Names that break what takes names for something else: paths, SQL, patterns, terminals, pages, tables."""

import os
import shutil
import tarfile
from contextlib import contextmanager
from io import BytesIO

from dumps import jpeg, light_recipe

from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.ledger.verify import verify
from torture.campaign import Tried
from torture.processes import command, complaint, ended, start

PIECES = [
    b"a", b"B", b" ", b"\n", b"\r", b"\t", b"\x1b[2J", b"\x1b]0;x\x07", b"\x7f", b"\xc2\x9b1m", "\u202e".encode(),
    "\u2066".encode(), "\u200d".encode(), "\ufeff".encode(), "e\u0301".encode(), "水".encode(), "🎞".encode(), b"\xff",
    b"\xed\xa0\x80", b"'", b'"', b"`", b"\\", b"%s", b"{}", b"{0}", b"$(x)", b"*", b"?", b"[a]", b";", b"--",
    b"'; DROP TABLE", b"<script>", b"&amp;", b"|", b"#", b"..", b"~", b"-", b"=cmd", b"CON", b"x" * 60,
    b".json", b".txt", b".tar", b"_", b":",
]  # fmt: skip
PLACES = ("", "", "a dir/", "..hidden/", "deep/er/")
AT_A_TIME = 6


def name_of(chance):
    """A name without a slash and without a zero byte, of at most 200 bytes, that a picture may have."""
    name = b"".join(chance.choice(PIECES) for _ in range(chance.randint(1, 5)))[:200]
    return name + chance.choice([b".jpg", b".JPG", b".txt", b".txt", b".mp4"])


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    recipe, picture = light_recipe(place / "light.toml"), jpeg(1)
    dump, out = place / "dump", place / "out"

    def attempt(chance):
        for folder in (dump, out):
            shutil.rmtree(folder, ignore_errors=True)
        names = {name_of(chance) for _ in range(AT_A_TIME)}
        for name in names:
            path = os.path.join(os.fsencode(dump), chance.choice(PLACES).encode(), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(b"Words of a text. " * 20 if name.endswith(b"txt") else picture)
        pack(dump, [*names, b"../climbs.jpg", b"/abs.jpg"], picture)
        before = {path for path in place.rglob("*") if out not in path.parents}
        again = ("curate", dump, "--out", out, "--recipe", recipe, "--executor", "inline")
        shown = (("stats", out), ("sql", out, "SELECT uri, reason FROM items"), ("report", out), ("verify", out))
        tried = Tried(len(names))
        for arguments in (again, *shown, *explained(out, chance)):
            said = place / "said"
            code = ended(start(command, arguments, said=said))
            if fault := complaint(code, said) or raw(said):
                tried.failures.append(f"{sorted(names)}: {arguments[0]}: {fault}")
        after = {path for path in place.rglob("*") if out not in path.parents}
        if more := after - before - {place / "said", out}:
            tried.failures.append(f"{sorted(names)}: made {more}")
        tried.failures += verify(RunFolder(out)).problems
        return tried

    yield attempt


def pack(dump, names, picture):
    """A tar of pictures with these names."""
    with tarfile.open(dump / "crawl.tar", "w", encoding="utf-8", errors="surrogateescape") as tar:
        for name in names:
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(picture)
            tar.addfile(info, BytesIO(picture))


def explained(out, chance):
    """What is asked about an item by its name, once the folder is there."""
    try:
        with LedgerQueries(out) as ledger:
            uris = [row["uri"] for row in ledger.rows("SELECT uri FROM items ORDER BY uri")]
    except Exception:
        return
    if uris:
        uri = chance.choice(uris)
        yield ("explain", out, uri)
        yield ("forget", out, "--uri", uri, "--dry-run")


def raw(said):
    """Control and direction characters that reached the terminal."""
    text = said.read_bytes().decode("utf-8", "replace")
    found = {c for c in text if not c.isprintable() and c not in "\n\u200c\u200d"}
    return f"raw {found} in what it says" if found else ""
