"""WARC files as dumps: media, pages and texts come out with where they are from; what is broken or lies is a row."""

import gzip
import time

import brotli
import pytest
from dumps import jpeg
from packed import COMPRESS, contents
from warcs import digest, page, record, write_warc

from reelmill.curation.readers import find_reader

PAGE = page("The mill grinds slowly.", "<title>Mills</title><link rel='license' href='https://cc.test/by'>")
TEXT = " ".join(["The mill grinds slowly."] * 20).encode()


def listed(place):
    reader = find_reader(place)
    return list(reader.items(place)), reader.ignored


def problems(items):
    return [(item.problem or "").partition(":")[0] for item in items]


@pytest.fixture(scope="module")
def picture():
    return jpeg(7)


@pytest.mark.parametrize("compressed", [True, False])
def test_what_records_hold(tmp_path, picture, compressed):
    chunked = b"5\r\n" + picture[:5] + b"\r\n" + b"%x" % (len(picture) - 5) + b"\r\n" + picture[5:] + b"\r\n0\r\n\r\n"
    records = [
        record("", b"software: x", kind="warcinfo"),
        record("https://x.test/page", PAGE, WARC_Payload_Digest=digest(PAGE)),
        record("https://x.test/a.jpg", picture, "text/html", WARC_Payload_Digest=digest(picture)),
        record("https://x.test/b.jpg", chunked, "image/jpeg", http=b"Transfer-Encoding: chunked\r\n"),
        record("https://x.test/zip", gzip.compress(PAGE), http=b"Content-Encoding: gzip\r\n"),
        record("https://x.test/br", brotli.compress(PAGE), http=b"Content-Encoding: br\r\n"),
        record("https://x.test/taken-off", PAGE, http=b"Content-Encoding: gzip\r\n"),
        record("https://x.test/gone", b"", status=404),
        record("https://x.test/style", b"p { color: red }", "text/css"),
        record("https://x.test/page", b"", kind="revisit"),
        record("https://x.test/resource.jpg", picture, "image/jpeg", kind="resource"),
        record("https://x.test/wet", "Wörter.".encode(), "text/plain", kind="conversion"),
        record("https://x.test/latin", page("Mühle.").decode().encode("latin-1"), "text/html; charset=iso-8859-1"),
    ]
    items, ignored = listed(write_warc(tmp_path / "crawl", records, compressed))
    assert problems(items) == [""] * 9
    latin = " ".join(["Mühle."] * 20).encode()
    assert list(contents(items).values()) == [
        TEXT,
        picture,
        picture,
        TEXT,
        TEXT,
        TEXT,
        picture,
        "Wörter.".encode(),
        latin,
    ]
    assert contents(items[4:5] + items[1:2]) == {items[4].uri: TEXT, items[1].uri: picture}
    first = items[0].known
    assert (first.url, first.crawled, first.licence, first.alt) == (
        *("https://x.test/page", "2024-01-02T03:04:05Z", "https://cc.test/by", "Mills"),
    )
    assert ignored == {"responses of status 404": 1, "records of type text/css": 1, "records of repeated visits": 1}


def test_a_file_compressed_as_one(tmp_path, picture):
    records = [record(f"https://x.test/{n}", picture, "image/jpeg") for n in range(4)]
    place = tmp_path / "crawl"
    for compress in (COMPRESS["gz"], COMPRESS["xz"]):
        place.write_bytes(compress(b"".join(records)))
        items, _ = listed(place)
        assert list(contents(items).values()) == [picture] * 4


def test_lies_and_cuts_are_rows(tmp_path, picture):
    deep = b"<html>" + b"<div>" * 5_000 + b"words"
    bomb = gzip.compress(bytes(300_000_000), 1)
    records = [
        record("https://x.test/1", picture, "image/jpeg", WARC_Payload_Digest=digest(b"other")),
        record("https://x.test/2", PAGE, WARC_Truncated="length"),
        record("https://x.test/3", b"<html><body></body></html>"),
        record("https://x.test/4", deep),
        record("https://x.test/5", bomb, http=b"Content-Encoding: gzip\r\n"),
        record("https://x.test/6", gzip.compress(PAGE)[:-20], http=b"Content-Encoding: gzip\r\n"),
        record("https://x.test/7", PAGE),
    ]
    items, _ = listed(write_warc(tmp_path / "crawl", records))
    assert problems(items) == ["wrong_digest", "truncated", "empty", "too_deep", "bomb", "truncated", ""]
    assert items[0].known.url == "https://x.test/1"
    assert list(contents(items).values()) == [TEXT]


def test_wishes_of_headers_and_pages_are_heard(tmp_path, picture):
    def words(head):
        return page("The mill grinds slowly.", head)

    places = {
        "header": record("https://x.test/1", PAGE, http=b"X-Robots-Tag: noindex, noai\r\n"),
        "picture": record("https://x.test/2", picture, "image/jpeg", http=b"TDM-Reservation: 1\r\n"),
        "meta": record("https://x.test/3", words('<meta name="Robots" content="index, NoAI">')),
        "tdm": record("https://x.test/4", words('<META NAME="tdm-reservation" CONTENT="1">')),
        "free": record("https://x.test/5", words('<meta name="tdm-reservation" content="0">')),
        "others": record("https://x.test/6", PAGE, http=b"X-Robots-Tag: otherbot: noai\r\n"),
    }
    place = write_warc(tmp_path / "a.warc.gz", list(places.values()))
    items, _ = listed(place)
    assert problems(items) == ["opted_out"] * 4 + [""] * 2
    assert [item.kind for item in items] == ["text", "image", *["text"] * 4]
    assert items[2].problem == "opted_out: meta robots: noai"
    assert items[3].known.url == "https://x.test/4"
    anyway = list(find_reader(place, opt_outs=False).items(place))
    assert problems(anyway) == [""] * 6
    assert "wishes" not in str(anyway[4].known)


@pytest.mark.parametrize("compressed", [True, False])
def test_what_lies_behind_a_broken_record_is_read(tmp_path, picture, compressed):
    records = [
        record("https://x.test/1", PAGE),
        record("https://x.test/2", PAGE, Content_Length=None),
        record("https://x.test/3", picture, "image/jpeg"),
    ]
    items, _ = listed(write_warc(tmp_path / "crawl", records, compressed))
    assert [one for one in problems(items) if one] == ["corrupt_warc"]
    assert list(contents(items).values()) == [TEXT, picture]
    (tmp_path / "junk").write_bytes(gzip.compress(records[0]) + b"\x1f\x8b\x08 junk" * 3 + gzip.compress(records[2]))
    items, _ = listed(tmp_path / "junk")
    assert list(contents(items).values()) == [TEXT, picture]
    data = gzip.compress(records[0]) + gzip.compress(records[2])[: len(picture) // 2]
    (tmp_path / "cut").write_bytes(data)
    items, _ = listed(tmp_path / "cut")
    assert problems(items)[0] == "" and problems(items)[1] in ("truncated", "corrupt_warc")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("length", ["99999", "999999999999"])
def test_what_lies_behind_a_record_that_says_it_is_longer_than_the_file_is_read(tmp_path, picture, compressed, length):
    records = [
        record("https://x.test/1", PAGE, Content_Length=length),
        record("https://x.test/2", b"fields", kind="metadata", Content_Length=length),
        record("https://x.test/3", picture, "image/jpeg"),
    ]
    items, _ = listed(write_warc(tmp_path / "crawl", records, compressed))
    assert list(contents(items).values()) == [picture]
    first = items[0].problem.partition(":")[0]
    assert first == ("bomb" if compressed and len(length) > 9 else "truncated" if len(length) < 9 else "too_large")


def test_many_records_that_say_they_are_longer_than_the_file_end_it(tmp_path):
    records = [record("https://x.test/1", b"fields", kind="metadata", Content_Length="99999")] * 300
    items, _ = listed(write_warc(tmp_path / "crawl", records, False))
    assert problems(items) == ["corrupt_warc"]


def test_pages_that_were_made_to_take_long(tmp_path):
    began = time.process_time()
    evil = [b"<a " * 100_000, b"<!--" * 100_000, b"<div><p>" * 900, b"<" * 500_000, b"<b>" * 900 + b"<table>" * 99_000]
    items, _ = listed(write_warc(tmp_path / "crawl", [record("https://x.test/", b"<html>" + one) for one in evil]))
    assert len(items) == len(evil)
    assert time.process_time() - began < 30
