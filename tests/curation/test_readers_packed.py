"""Zips and compressed tars as dumps: items, sidecars and bytes come out, and what is broken or a trap is a row."""

import io
import os
import struct
import tarfile
import zipfile

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import COMPRESS, contents, tar_bytes, write_tar, write_zip

from reelmill.curation.readers import find_reader
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.source import Packed, Source

MEMBERS = [
    ("p/a.jpg", b"J" * 3000),
    ("p/a.json", b'{"caption": "a mill", "license": "CC0-1.0", "url": "https://x.test/a"}'),
    ("p/b.mp4", os.urandom(1_300_000)),
    ("notes.txt", b"alone"),
    ("p/b.txt", b"behind its item"),
    ("thing.bin", b"1"),
]
BYTES = {"p/a.jpg": MEMBERS[0][1], "p/b.mp4": MEMBERS[2][1], "notes.txt": b"alone"}


def listed(place):
    reader = find_reader(place)
    return list(reader.items(place)), reader.ignored


def archives(folder):
    for compression in COMPRESS:
        yield write_tar(folder / f"{compression}.data", MEMBERS, compression)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        yield write_zip(folder / f"{method}.data", MEMBERS, method)


def test_archives_are_told_by_their_bytes_and_give_the_same_items(tmp_path):
    for place in archives(tmp_path):
        items, ignored = listed(place)
        assert contents(items) == BYTES, place
        assert ignored == {".bin": 1}
        known = {item.uri: item.known for item in items}
        assert (known["p/a.jpg"].alt, known["p/a.jpg"].licence, known["p/a.jpg"].url) == (
            "a mill",
            "CC0-1.0",
            "https://x.test/a",
        )
        assert known["p/b.mp4"].alt == "behind its item"


def test_stored_members_are_byte_ranges(tmp_path):
    items, _ = listed(write_zip(tmp_path / "a.zip", MEMBERS, zipfile.ZIP_STORED))
    assert all(isinstance(item.source, Source) for item in items)
    mixed = tmp_path / "mixed.zip"
    with zipfile.ZipFile(mixed, "w") as archive:
        archive.writestr("a.jpg", b"J" * 100, zipfile.ZIP_STORED)
        archive.writestr("b.jpg", b"K" * 100, zipfile.ZIP_DEFLATED)
    items, _ = listed(mixed)
    assert [type(item.source) for item in items] == [Source, Packed]
    assert contents(items) == {"a.jpg": b"J" * 100, "b.jpg": b"K" * 100}


def test_archives_in_a_folder_have_their_names_in_the_uris(tmp_path):
    folder = tmp_path / "dump"
    (folder / "deep").mkdir(parents=True)
    write_zip(folder / "deep" / "a.zip", [("x.jpg", b"1")])
    write_tar(folder / "b.tar.gz", [("y.jpg", b"2")])
    (folder / "report.docx").write_bytes(b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml")
    (folder / "words.gz").write_bytes(COMPRESS["gz"](b"only words"))
    items, ignored = listed(folder)
    assert [item.uri for item in items] == ["b.tar.gz/y.jpg", "deep/a.zip/x.jpg"]
    assert ignored == {".docx": 1, "(no suffix)": 1} or ignored == {".docx": 1, ".gz": 1}


def test_members_in_any_order(tmp_path):
    place = write_tar(tmp_path / "a.tgz", [(f"{n}.jpg", bytes([n]) * 70_000) for n in range(9)])
    items, _ = listed(place)
    with Child(IsolationConfig()) as child:
        for n in (3, 3, 8, 0, 1, 7, 2):
            with child.opened(items[n].source).open() as stream:
                assert stream.read() == bytes([n]) * 70_000


def test_a_damaged_archive_gives_what_comes_before(tmp_path):
    random = [(f"{n}.jpg", os.urandom(300_000)) for n in range(4)]
    for compression in COMPRESS:
        place = write_tar(tmp_path / f"cut.{compression}", random, compression)
        data = place.read_bytes()
        place.write_bytes(data[: len(data) * 6 // 10])
        items, _ = listed(place)
        assert items[-1].problem.startswith("corrupt"), compression
        whole = contents(items)
        assert whole == dict(random[: len(whole)])
        assert compression in ("bz2", "xz") or len(whole) == 2  # those two work in large blocks
    cut = write_zip(tmp_path / "cut.zip", random)
    cut.write_bytes(cut.read_bytes()[:-30])
    items, _ = listed(cut)
    assert [item.problem.partition(":")[0] for item in items] == ["corrupt_zip"]


def test_a_broken_header_and_a_second_tar_are_said(tmp_path):
    tar = bytearray(tar_bytes([("a.jpg", b"1" * 600), ("b.jpg", b"2" * 600), ("c.jpg", b"3")]))
    tar[1536 + 148 : 1536 + 156] = b"????????"
    (tmp_path / "broken.tgz").write_bytes(COMPRESS["gz"](bytes(tar)))
    items, _ = listed(tmp_path / "broken.tgz")
    assert [item.uri for item in items] == ["a.jpg", ""]
    assert items[1].problem == "corrupt_tar: a broken header at byte 1536"
    two = tar_bytes([("a.jpg", b"1")]) + tar_bytes([("b.jpg", b"2")])
    (tmp_path / "two.tgz").write_bytes(COMPRESS["gz"](two))
    items, _ = listed(tmp_path / "two.tgz")
    assert "what follows the end mark" in items[-1].problem


def test_bombs(tmp_path):
    zeros = io.BytesIO()
    with zstd.ZstdFile(zeros, "w") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        info = tarfile.TarInfo("zeros.mp4")
        info.size = 300 * 1024**2
        tar.addfile(info, _Zeros())
    (tmp_path / "bomb.tar.zst").write_bytes(zeros.getvalue())
    items, _ = listed(tmp_path / "bomb.tar.zst")
    assert items[0].problem.startswith("bomb: ")
    lying = write_zip(tmp_path / "lying.zip", [("a.jpg", b"0" * 1000), ("b.jpg", b"fine")])
    data = lying.read_bytes()
    directory = data.index(b"PK\x01\x02")
    lying.write_bytes(data[: directory + 24] + struct.pack("<I", 1 << 31) + data[directory + 28 :])
    items, _ = listed(lying)
    assert [(item.uri, (item.problem or "").partition(":")[0]) for item in items] == [("a.jpg", "bomb"), ("b.jpg", "")]
    assert contents(items) == {"b.jpg": b"fine"}


class _Zeros:
    def read(self, size):
        return bytes(size)


def test_traps_in_zips_are_rows(tmp_path):
    place = tmp_path / "traps.zip"
    with zipfile.ZipFile(place, "w") as archive:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../../climb.jpg", b"up")
        archive.writestr("/etc/absolute.jpg", b"root")
        archive.writestr("fine.jpg", b"fine")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("fine.jpg", b"again")
    items, _ = listed(place)
    assert contents(items) == {
        "../../climb.jpg": b"up",  # a name is only ever data
        "/etc/absolute.jpg": b"root",
        "fine.jpg": b"fine",
        "fine.jpg#2": b"again",
    }
    assert [item.problem for item in items if item.problem] == ["not_a_file: a link in a zip"]
    data = bytearray(write_zip(tmp_path / "locked.zip", [("a.jpg", b"secret" * 99), ("b.jpg", b"open")]).read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    items, _ = listed(tmp_path / "locked.zip")
    assert items[0].problem.startswith("encrypted: ")
    assert contents(items) == {"b.jpg": b"open"}


def test_a_member_with_a_wrong_check_sum_is_a_row(tmp_path):
    data = bytearray(write_zip(tmp_path / "a.zip", [("a.jpg", b"abc" * 1000), ("b.jpg", b"fine")]).read_bytes())
    data[data.index(b"PK\x01\x02") + 16] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    items, _ = listed(tmp_path / "a.zip")
    assert items[0].problem.startswith("corrupt_zip: Bad CRC")
    assert contents(items) == {"b.jpg": b"fine"}


def test_an_archive_that_changed_or_is_gone_fails_by_the_machine(tmp_path):
    place = write_tar(tmp_path / "a.tgz", [("a.jpg", b"1" * 50), ("b.jpg", b"2" * 50)])
    items, _ = listed(place)
    write_tar(place, [("a.jpg", b"1" * 51)])
    with Child(IsolationConfig()) as child:
        for item in items:
            with pytest.raises(ItemFailed) as failed:
                child.opened(item.source)
            assert failed.value.reason_class == "machine"
        place.unlink()
        with pytest.raises(ItemFailed, match="unreadable"):
            child.opened(items[0].source)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_damage_gives_rows_and_ends(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    members = [("a.jpg", b"J" * 400), ("a.json", b'{"caption": "x"}'), ("b.txt", b"words " * 50)]
    if data.draw(st.booleans()):
        place = write_zip(folder / "x", members)
    else:
        place = write_tar(folder / "x", members, data.draw(st.sampled_from(sorted(COMPRESS))))
    content = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(8, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    place.write_bytes(content)
    items, _ = listed(place)
    for item in items:
        assert item.problem or item.source.size <= 1_000_000
