"""Which sidecar belongs to which item, however a crawl names and orders them."""

import io
import itertools
import tarfile
import unicodedata

import pytest

from reelmill.curation.readers import find_reader, read_dump


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).write_text(name)
    return tmp_path


def tar_of(tmp_path, *names):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            tar.addfile(info, io.BytesIO(name.encode()))
    return tmp_path / "a.tar"


def words(source):
    if source is None:
        return None
    with source.open() as stream:
        return stream.read().decode()


def pairs(place):
    """uri to the names of its sidecars, and how many files were left over."""
    reader = find_reader(place)
    return {item.uri: (words(item.json), words(item.text)) for item in reader.items(place)}, reader.ignored.total()


@pytest.mark.parametrize("make", [folder_of, tar_of])
@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("x.jpg", "x.jpg.json"), {"x.jpg": ("x.jpg.json", None)}),
        (("x.jpg", "x.jpg.txt"), {"x.jpg": (None, "x.jpg.txt")}),
        (("x.mp4", "x.info.json"), {"x.mp4": ("x.info.json", None)}),
        (("x.mp4", "x.mp4.info.json"), {"x.mp4": (None, None)}),
        (("x.JPG", "x.JPG.TXT"), {"x.JPG": (None, "x.JPG.TXT")}),
        (("x.jpg", "x.jpg.json", "x.json", "x.png"), {"x.jpg": ("x.jpg.json", None), "x.png": ("x.json", None)}),
        (("x.jpg", "x.jpg.txt", "x.txt"), {"x.jpg": (None, "x.jpg.txt")}),
        (("x.txt", "x.txt.json"), {"x.txt": ("x.txt.json", None)}),
        (("x.md", "x.json", "x.txt"), {"x.md": ("x.json", None), "x.txt": ("x.json", None)}),
    ],
)
def test_names_of_sidecars(tmp_path, make, files, found):
    paired, left = pairs(make(tmp_path, *files))
    used = {*paired, *itertools.chain.from_iterable(paired.values())} - {None}
    assert paired == found
    assert left == len(files) - len(used)


@pytest.mark.parametrize("make", [folder_of, tar_of])
@pytest.mark.parametrize(("forms"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_finds_its_sidecar_in_the_other_normal_form(tmp_path, make, forms):
    media, sidecar = (unicodedata.normalize(form, "été 가") for form in forms)
    assert media != sidecar
    paired, left = pairs(make(tmp_path, f"{media}.jpg", f"{sidecar}.json", f"{sidecar}.jpg.txt"))
    assert paired == {f"{media}.jpg": (f"{sidecar}.json", f"{sidecar}.jpg.txt")}
    assert left == 0


@pytest.mark.parametrize(
    "order",
    [
        ("a.jpg", "b.jpg", "a.txt", "b.txt", "a.json", "b.json"),
        ("a.json", "b.json", "a.txt", "b.txt", "a.jpg", "b.jpg"),
        ("a.txt", "b.txt", "a.jpg", "b.jpg", "a.json", "b.json"),
        ("a.jpg", "b.jpg", "b.json", "b.txt", "a.json", "a.txt"),
        ("b.jpg", "b.json", "a.jpg", "b.txt", "a.txt", "a.json"),
    ],
)
def test_a_tar_sorted_by_type_keeps_its_pairs(tmp_path, order):
    paired, left = pairs(tar_of(tmp_path, *order))
    assert paired == {"a.jpg": ("a.json", "a.txt"), "b.jpg": ("b.json", "b.txt")}
    assert left == 0


def test_parts_of_one_key_that_lie_apart(tmp_path):
    names = ("k/x.left.jpg", "k/y.jpg", "k/x.right.jpg", "k/y.txt", "k/x.left.txt", "k/x.json", "k/y.json")
    paired, left = pairs(tar_of(tmp_path, *names))
    assert paired == {
        "k/x.left.jpg": ("k/x.json", "k/x.left.txt"),
        "k/x.right.jpg": ("k/x.json", None),
        "k/y.jpg": ("k/y.json", "k/y.txt"),
    }
    assert left == 0


def test_texts_sorted_apart_from_their_json_stay_texts(tmp_path):
    paired, left = pairs(tar_of(tmp_path, "a.txt", "b.txt", "a.json", "b.json", "c.json"))
    assert paired == {"a.txt": ("a.json", None), "b.txt": ("b.json", None)}
    assert left == 1, "c.json belongs to nothing"


def test_a_shard_twice_in_a_tar(tmp_path):
    names = ("a.jpg", "b.jpg", "a.txt", "b.txt") * 2
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, name in enumerate(names):
            data = f"{name} {number}".encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = {item.uri: words(item.text) for item in read_dump(tmp_path / "a.tar")}
    assert found == {"a.jpg": "a.txt 2", "b.jpg": "b.txt 3", "a.jpg#2": "a.txt 6", "b.jpg#2": "b.txt 7"}


def test_a_tar_of_one_key_many_times_takes_no_longer_than_its_length(tmp_path):
    names = ["a.jpg", "a.txt"] * 8_000 + ["a.txt"] * 8_000
    found = list(read_dump(tar_of(tmp_path, *names)))
    assert len(found) == 8_000 + 8_000
