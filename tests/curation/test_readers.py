"""Dumps as crawls leave them and as an attacker would: every name is data, every oddity an item with a reason."""

import io
import os
import tarfile
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.readers import find_reader, read_dump
from reelmill.curation.readers.names import MAX_URI
from reelmill.errors import DataError, MachineError


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    """A tar of (name, bytes) or ready-made TarInfo."""
    with tarfile.open(path, "w", format=format) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, type, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, linkname
    return info


def text_of(source):
    with source.open() as stream:
        return stream.read()


def uris(place):
    return [item.uri for item in read_dump(place)]


def ignored(place):
    reader = find_reader(place)
    list(reader.items(place))
    return reader.ignored


@pytest.fixture
def dump(tmp_path):
    folder = tmp_path / "dump"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "a").mkdir()
    for name in ("z.mp4", "b/clip.MKV", "b/deep/photo.jpeg", "a/words.txt", "b/notes.md"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_tree_is_read_folder_by_folder_in_the_order_of_names(dump):
    found = list(read_dump(dump))
    assert [item.uri for item in found] == ["z.mp4", "a/words.txt", "b/clip.MKV", "b/notes.md", "b/deep/photo.jpeg"]
    assert [item.kind for item in found] == ["video", "text", "video", "text", "image"]
    assert all(text_of(item.source) == item.uri.encode() for item in found)
    assert not any(item.problem for item in found)


def test_the_order_does_not_depend_on_the_file_system(dump, monkeypatch):
    before = uris(dump)
    walk = os.scandir

    class Backwards:
        def __init__(self, path):
            with walk(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __next__(self):
            return next(self.entries)

    monkeypatch.setattr(os, "scandir", Backwards)
    assert uris(dump) == before


def test_sidecars_lie_beside_their_item(dump):
    for name in ("z.json", "z.txt", "b/clip.JSON", "b/deep/photo.txt", "a/words.json", "b/clip.md"):
        (dump / name).write_text("{}")
    found = {item.uri: item for item in read_dump(dump)}
    assert found["z.mp4"].json.path.endswith("z.json")
    assert found["z.mp4"].text.path.endswith("z.txt")
    assert found["b/clip.MKV"].json.path.endswith("clip.JSON")
    assert found["b/deep/photo.jpeg"].text.path.endswith("photo.txt")
    assert found["a/words.txt"].json.path.endswith("words.json")
    assert found["a/words.txt"].text is None
    assert "b/clip.md" in found, "only .txt is a sidecar"
    assert len(found) == 6


def test_what_is_no_item_is_counted(dump):
    others = ("readme.html", "b/one.HEIC", "b/two.heic", "b/shards.tar.gz", "LICENSE", ".DS_Store", "b/alone.json")
    for name in (*others, "z.json", "z.txt", "z.mp4.json"):
        (dump / name).write_text("x")
    write_tar(dump / "c.tar", [("a.jpg", b"a"), ("a.cls", b"7"), special("a.html", tarfile.SYMTYPE, "x")])
    (dump / "pages").symlink_to(dump / "a")
    os.mkfifo(dump / "pipe.tar")
    assert ignored(dump) == {
        ".html": 2, ".heic": 2, ".tar.gz": 1, "(no suffix)": 2, ".cls": 1, ".json": 2, "links to folders": 1, ".tar": 1,
    }  # fmt: skip


def test_links(dump, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "hidden.mp4").write_text("hidden")
    (dump / "out.mp4").symlink_to(secret)
    (dump / "passwd.json").symlink_to("/etc/passwd")
    (dump / "passwd.mp4").write_text("a clip")
    (dump / "folder").symlink_to(tmp_path / "elsewhere")
    (dump / "inside.mp4").symlink_to(dump / "z.mp4")
    (dump / "loop.mp4").symlink_to(dump / "loop.mp4")
    (dump / "nothing.mp4").symlink_to(dump / "gone.mp4")
    os.mkfifo(dump / "pipe.mp4")
    found = {item.uri: item for item in read_dump(dump)}
    problems = {uri: item.problem.partition(":")[0] for uri, item in found.items() if item.problem}
    assert problems == {
        "out.mp4": "link_outside_dump",
        "loop.mp4": "not_a_file",
        "nothing.mp4": "not_a_file",
        "pipe.mp4": "not_a_file",
    }
    assert found["passwd.mp4"].json is None
    assert text_of(found["inside.mp4"].source) == b"z.mp4"
    assert not any("hidden" in uri for uri in found)


@pytest.mark.parametrize(
    "name", ["new\nline", "quo'te\"s", "-rf", "日本語 ü", "a b", "$(id)", "\x1b[31mred", "a.b.c", "%2e"]
)
def test_hostile_names_are_only_names(tmp_path, name):
    (tmp_path / f"{name}.mp4").write_text("clip")
    (tmp_path / f"{name}.json").write_text("{}")
    (item,) = read_dump(tmp_path)
    assert item.uri == f"{name}.mp4"
    assert text_of(item.source) == b"clip"
    assert item.json is not None


def test_a_name_that_is_not_utf8_is_refused_and_keeps_its_bytes(tmp_path):
    for last in (b"\xff", b"\xfe"):
        (tmp_path / os.fsdecode(b"caf" + last + b".mp4")).write_bytes(b"clip")
    found = list(read_dump(tmp_path))
    assert [item.uri for item in found] == ["caf\\udcfe.mp4", "caf\\udcff.mp4"]
    assert all(item.problem.startswith("name_not_utf8") for item in found)


def test_a_folder_that_cannot_be_read_is_an_error_not_a_smaller_dump(dump, monkeypatch):
    walk = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return walk(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MachineError, match=r"cannot read .*deep: Permission denied"):
        list(read_dump(dump))


@pytest.mark.parametrize("name", ["missing", "file.zip"])
def test_no_dump(tmp_path, name):
    (tmp_path / "file.zip").write_text("x")
    with pytest.raises(DataError, match=r"is no dump: found .*Give a folder tree or a WebDataset tar"):
        read_dump(tmp_path / name)


def test_webdataset_groups_by_key(tmp_path):
    members = [
        ("d/x.mp4", b"x"), ("d/x.json", b"{}"),
        ("d/y.left.jpg", b"yl"), ("d/y.right.jpg", b"yr"), ("d/y.json", b'{"of": "y"}'), ("d/y.txt", b"both"),
        ("d/z.v1.mp4", b"z1"), ("d/z.v1.txt", b"its own"), ("d/z.txt", b"the key's"),
        ("w.txt", b"alone"), ("./q.png", b"q"),
    ]  # fmt: skip
    found = {item.uri: item for item in read_dump(write_tar(tmp_path / "a.tar", members))}
    assert list(found) == ["d/x.mp4", "d/y.left.jpg", "d/y.right.jpg", "d/z.v1.mp4", "w.txt", "q.png"]
    assert all(text_of(found[uri].source) == data for uri, data in members if uri in found)
    assert text_of(found["d/x.mp4"].json) == b"{}"
    assert text_of(found["d/y.left.jpg"].json) == text_of(found["d/y.right.jpg"].json) == b'{"of": "y"}'
    assert text_of(found["d/y.left.jpg"].text) == b"both"
    assert text_of(found["d/z.v1.mp4"].text) == b"its own"


def test_a_tar_within_a_folder_lends_its_name(dump):
    write_tar(dump / "b" / "crawl.tar", [("k/1.jpg", b"1")])
    assert "b/crawl.tar/k/1.jpg" in uris(dump)


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("../../x.mp4", "../../x.mp4"),
        ("/etc/x.mp4", "/etc/x.mp4"),
        (".hidden.mp4", ".hidden.mp4"),
        ("a/.hidden/b.mp4", "a/.hidden/b.mp4"),
        ("caf\udce9.mp4", "caf\\udce9.mp4"),
        ("new\nline.mp4", "new\nline.mp4"),
    ],
)
def test_names_in_a_tar_are_data(tmp_path, name, uri):
    (item,) = read_dump(write_tar(tmp_path / "a.tar", [(name, b"clip")], tarfile.GNU_FORMAT))
    assert item.uri == uri
    assert item.source.path == str(tmp_path / "a.tar")
    assert text_of(item.source) == b"clip"


@pytest.mark.parametrize("name", [".", "/", "..", "a/..", "./."])
def test_names_that_are_no_names(tmp_path, name):
    assert uris(write_tar(tmp_path / "a.tar", [(name, b"clip"), ("b.mp4", b"b")])) == ["b.mp4"]


def test_very_long_names_are_cut_and_stay_apart(tmp_path):
    long = "n" * 5000
    members = [(f"{long}1.mp4", b"1"), (f"{long}1.json", b"{}"), (f"{long}2.mp4", b"2")]
    found = list(read_dump(write_tar(tmp_path / "a.tar", members)))
    assert len({item.uri for item in found}) == 2
    assert all(len(item.uri) < MAX_URI + 40 and item.uri.endswith(".mp4") for item in found)
    assert [item.json is not None for item in found] == [True, False]


def test_members_that_are_no_files_are_refused(tmp_path):
    members = [
        ("a.mp4", b"a"),
        special("link.mp4", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.mp4", tarfile.LNKTYPE, "a.mp4"),
        special("null.mp4", tarfile.CHRTYPE),
        special("pipe.jpg", tarfile.FIFOTYPE),
        special("link.json", tarfile.SYMTYPE, "/etc/passwd"),
        special("folder.mp4", tarfile.DIRTYPE),
    ]
    sparse = tarfile.TarInfo("sparse.mp4")
    sparse.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    found = {item.uri: item.problem for item in read_dump(write_tar(tmp_path / "a.tar", [*members, sparse]))}
    refused = {"link.mp4", "hard.mp4", "null.mp4", "pipe.jpg", "sparse.mp4"}
    assert found.keys() == {"a.mp4", *refused}
    assert found["a.mp4"] is None
    assert all(found[uri].startswith("not_a_file: a link, a device or a sparse file") for uri in refused)


def test_a_name_that_comes_again_is_another_item(tmp_path):
    members = [("a.jpg", b"1"), ("a.jpg", b"2"), ("b.jpg", b"3"), ("a.jpg", b"4"), ("a.json", b"{}")]
    found = list(read_dump(write_tar(tmp_path / "a.tar", members)))
    assert [(item.uri, text_of(item.source)) for item in found] == [
        ("a.jpg", b"1"), ("a.jpg#2", b"2"), ("b.jpg", b"3"), ("a.jpg#3", b"4"),
    ]  # fmt: skip
    assert [item.json is not None for item in found] == [False, False, False, True]


@pytest.mark.parametrize("keep", [0, 1, 100, 511, 513, 900, 1100, 1536, 1537, 2000, 2100, 3072])
def test_a_truncated_tar_is_a_refused_item_and_what_came_before_it(tmp_path, keep):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"1" * 600), ("b.jpg", b"2" * 600)])
    path.write_bytes(path.read_bytes()[:keep])
    *whole, last = read_dump(path)
    assert last.uri == ""
    assert last.problem.startswith("corrupt_tar: ")
    assert [item.uri for item in whole] == ["a.jpg"] * (keep >= 512 + 600) + ["b.jpg"] * (keep >= 3072)
    assert all(len(text_of(item.source)) == 600 for item in whole)


def test_a_broken_header_does_not_end_a_tar_in_silence(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"1" * 600), ("b.jpg", b"2" * 600)])
    data = bytearray(path.read_bytes())
    data[1536 + 3] ^= 1
    path.write_bytes(data)
    whole, last = read_dump(path)
    assert whole.uri == "a.jpg"
    assert last.problem == "corrupt_tar: a broken header at byte 1536"


@pytest.mark.parametrize("gap", [0, 512, 10240, 1 << 21])
def test_what_follows_the_end_mark_of_a_tar_is_noticed(tmp_path, gap):
    first = write_tar(tmp_path / "first.tar", [("a.jpg", b"1" * 600)]).read_bytes()
    second = write_tar(tmp_path / "second.tar", [("b.jpg", b"2" * 600)]).read_bytes()
    path = tmp_path / "both.tar"
    path.write_bytes(first + bytes(gap) + second)
    whole, last = read_dump(path)
    assert whole.uri == "a.jpg"
    assert last.problem.startswith(
        f"corrupt_tar: what follows the end mark, from byte {len(first) + gap} on, is not read"
    )
    path.write_bytes(first + bytes(gap))
    assert [item.problem for item in read_dump(path)] == [None]


def test_a_tar_is_known_by_its_bytes(dump):
    write_tar(dump / "shard-000", [("k.jpg", b"k")])
    write_tar(dump / "shard.tar.part", [("k.jpg", b"k")])
    assert {"shard-000/k.jpg", "shard.tar.part/k.jpg"} < set(uris(dump))
    assert uris(dump / "shard-000") == ["k.jpg"]


def test_a_truncated_tar_within_a_folder_costs_one_item(dump):
    write_tar(dump / "c.tar", [("a.jpg", b"1" * 600)])
    (dump / "c.tar").write_bytes((dump / "c.tar").read_bytes()[:700])
    found = {item.uri: item.problem for item in read_dump(dump)}
    assert found.pop("c.tar").startswith("corrupt_tar: unexpected end of data")
    assert len(found) == 5
    assert not any(found.values())


def test_headers_that_ask_for_all_memory_or_send_the_reader_in_circles(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"1" * 600), ("b.jpg", b"2" * 600)])
    base = path.read_bytes()
    for offset, size, type in [
        (0, b"\x80" + (1 << 62).to_bytes(11), None),  # a member of 4 EiB
        (1536, b"\xff" + (2**88 - 1536).to_bytes(11), None),  # back to the start
        (1536, b"\x80" + (1 << 40).to_bytes(11), b"L"),  # a name of 1 TiB
        (0, b"\x80" + (1 << 40).to_bytes(11), b"x"),  # a header of 1 TiB
    ]:
        data = bytearray(base)
        data[offset + 124 : offset + 136] = size
        if type:
            data[offset + 156 : offset + 157] = type
        path.write_bytes(with_checksums(data))
        *_, last = read_dump(path)
        assert last.problem.startswith("corrupt_tar: "), (size, type)


def test_a_chain_of_headers_deeper_than_the_stack(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", 0
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf() * 3000)
    (item,) = read_dump(path)
    assert item.problem.startswith("corrupt_tar: ")


def with_checksums(data):
    for offset in range(0, len(data), 512):
        if data[offset + 257 : offset + 262] == b"ustar":
            data[offset + 148 : offset + 156] = b" " * 8
            data[offset + 148 : offset + 156] = b"%06o\0 " % sum(data[offset : offset + 512])
    return bytes(data)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 511) | st.integers(124, 136), st.integers(0, 7), st.integers(0, 255))))
def test_a_damaged_tar_never_breaks_the_reader(tmp_path_factory, flips):
    path = tmp_path_factory.getbasetemp() / "flipped.tar"
    write_tar(path, [("a.jpg", b"1" * 600), ("é" * 90 + ".mp4", b"2"), ("b.json", b"3")])
    data = bytearray(path.read_bytes()[: 512 * 9])
    for place, block, value in flips:
        data[block * 512 + place] = value
    path.write_bytes(with_checksums(data))
    for item in read_dump(path):
        item.uri.encode()
        assert item.source.path == str(path)
        assert 0 <= item.source.offset <= item.source.offset + item.source.size <= len(data)


names = st.lists(
    st.sampled_from(["..", ".", "", "a", "~", "C:", "\\", "\x00", "\n", "é", "\udcff"]) | st.text(max_size=4)
)


@settings(deadline=None)
@given(names, st.sampled_from([".mp4", ".jpg", ".txt", ".json", ".tar", ""]))
def test_no_name_becomes_a_path(tmp_path_factory, parts, suffix):
    path = tmp_path_factory.getbasetemp() / "names.tar"
    name = "/".join(parts) + suffix
    try:
        write_tar(path, [(name, b"data")], tarfile.GNU_FORMAT)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte cannot be written
        return
    for item in read_dump(path):
        assert (item.source.path, item.source.size) == (str(path), 4)
        assert item.json is None
        assert item.text is None
        assert item.problem is None
        assert PurePosixPath(item.uri).suffix.lower() == suffix
        item.uri.encode()
