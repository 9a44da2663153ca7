"""JSON lines and Parquet as dumps: texts and media come out with what their rows say, broken rows are rows."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dumps import jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import COMPRESS, contents, write_tar

from reelmill.archives import jobs
from reelmill.archives.columns import DOWNLOADS
from reelmill.curation.readers import find_reader
from reelmill.media.source import Source

C4 = [{"text": f"Text {n} of a mill.", "url": f"https://x.test/{n}", "timestamp": "2020-01-01"} for n in range(40)]


def listed(place):
    reader = find_reader(place)
    return list(reader.items(place)), reader.ignored


def jsonl(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.parametrize("compression", ["", "gz", "zst"])
def test_lines_of_text(tmp_path, compression):
    data = jsonl(C4)
    place = tmp_path / "c4-train.bin"
    place.write_bytes(COMPRESS[compression](data) if compression else data)
    items, _ = listed(place)
    assert list(contents(items).values()) == [row["text"].encode() for row in C4]
    assert contents(reversed(items)) == contents(items)
    assert [item.known.url for item in items] == [row["url"] for row in C4]
    assert {item.kind for item in items} == {"text"}


def test_parquet_of_texts(tmp_path):
    place = tmp_path / "fineweb"
    rows = [{"text": row["text"], "id": "x", "url": row["url"], "language": "en", "score": 0.5} for row in C4]
    pq.write_table(pa.Table.from_pylist(rows), place, row_group_size=7)
    items, _ = listed(place)
    assert list(contents(items).values()) == [row["text"].encode() for row in C4]
    assert contents([items[30]]) == {items[30].uri: b"Text 30 of a mill."}
    assert items[30].known.url == "https://x.test/30"


def test_media_in_cells(tmp_path):
    pictures = [jpeg(n) for n in range(5)]
    rows = [
        {"image": {"bytes": data, "path": f"{n}.jpg"}, "caption": f"picture {n}", "license": "CC0-1.0"}
        for n, data in enumerate(pictures)
    ]
    rows += [{"image": {"bytes": None, "path": "/etc/passwd"}}, {"image": {"bytes": b"no picture", "path": None}}]
    place = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), place, row_group_size=2)
    items, _ = listed(place)
    assert list(contents(items).values()) == pictures
    assert (items[3].uri, items[3].known.alt, items[3].known.licence) == ("00000003.jpg", "picture 3", "CC0-1.0")
    assert [item.problem.partition(":")[0] for item in items[5:]] == ["no_bytes", "unknown_kind"]
    two = pa.table({"before": pictures[:2], "after": pictures[2:4], "key": ["a", "b"]})
    pq.write_table(two, place)
    items, _ = listed(place)
    assert contents(items) == {
        "00000000/before.jpg": pictures[0],
        "00000000/after.jpg": pictures[2],
        "00000001/before.jpg": pictures[1],
        "00000001/after.jpg": pictures[3],
    }


def test_rows_of_url_tables_are_items_to_fetch(tmp_path):
    laion = {"URL": "https://x.test/a.jpg", "TEXT": "a mill", "WIDTH": 640, "HEIGHT": 480, "similarity": 0.3}
    datacomp = {"uid": "u", "url": "https://x.test/a.jpg", "text": "a mill", "original_width": 640}
    panda = {"videoID": "dQw4w9WgXcQ", "timestamp": "[]", "caption": "a mill"}
    for n, row in enumerate((laion, datacomp, panda)):
        (tmp_path / f"{n}.jsonl").write_bytes(jsonl([row] * 2))
        pq.write_table(pa.Table.from_pylist([row] * 2), tmp_path / f"{n}.parquet")
    koala = 'videoID,url,timestamp,caption\na,https://x.test/1,"[0, 1]","a ""mill"", b"\n'
    (tmp_path / "koala.csv").write_text(koala)
    pairs = b"https://x.test/1\ta mill\nhttps://x.test/2\tnul \0\n"
    (tmp_path / "cc12m.tsv.gz").write_bytes(COMPRESS["gz"](pairs))
    (tmp_path / "cc3m.tsv").write_bytes(b"a mill\thttps://x.test/1\n")
    (tmp_path / "prices.csv").write_text("day,price\n1,2\n")
    items, ignored = listed(tmp_path)
    assert all(item.is_address and item.problem is None and item.source.size == 0 for item in items)
    tables = {}
    for item in items:
        tables.setdefault(item.uri.partition("/")[0], []).append((item.kind, item.url, item.known.alt))
    image, video = (
        ("image", "https://x.test/a.jpg", "a mill"),
        ("video", "https://www.youtube.com/watch?v=dQw4w9WgXcQ", "a mill"),
    )
    assert tables == {
        **{f"{n}.{suffix}": [image] * 2 for n in (0, 1) for suffix in ("jsonl", "parquet")},
        **{f"2.{suffix}": [video] * 2 for suffix in ("jsonl", "parquet")},
        "koala.csv": [("video", "https://x.test/1", None)],  # its caption is the span's (tests/curation/test_spans.py)
        "cc12m.tsv.gz": [("image", "https://x.test/1", "a mill"), ("image", "https://x.test/2", "nul")],
        "cc3m.tsv": [("image", "https://x.test/1", "a mill")],
    }
    assert ignored == {".csv": 1}


def test_a_downloaders_table_is_counted(tmp_path):
    beside = {"url": "https://x.test/a.jpg", "key": "000", "status": "success", "error_message": None, "width": 1}
    pq.write_table(pa.Table.from_pylist([beside] * 5), tmp_path / "00000.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "numbers.parquet")
    items, ignored = listed(tmp_path)
    assert items == []
    assert ignored == {DOWNLOADS: 5, ".parquet": 1}


def test_columns_that_the_recipe_names(tmp_path):
    rows = "bild,text_de,rechte\nhttps://x.test/1,eine Mühle,CC0-1.0\n"
    (tmp_path / "a.csv").write_text(rows)
    assert listed(tmp_path)[0] == []
    reader = find_reader(tmp_path, (), {"url": "bild", "caption": "text_de", "licence": "rechte"})
    (item,) = reader.items(tmp_path)
    assert (item.url, item.known.alt, item.known.licence) == ("https://x.test/1", "eine Mühle", "CC0-1.0")


def test_rows_that_cannot_be_told_into_their_columns(tmp_path):
    lines = [
        "https://x.test/0,fine,1",
        'https://x.test/1,"open,1',
        "https://x.test/2,fine,2",
        "https://x.test/3,a mill, with water,3",
        'https://x.test/4,"over\nseveral\nlines",4',
        'https://x.test/5,5" nails,5',
        "",
        "https://x.test/6," + "x" * 10_000_000 + ",6",
        "https://x.test/7,short",
        ",no address,8",
        "https://x.test/9,m\xfchle \0 nul,9",
        'https://x.test/10,"never closed,1',
        *(f"https://x.test/{n},fine,{n}" for n in range(11, 400)),
    ]
    (tmp_path / "a.csv").write_bytes("\n".join(["url,caption,width", *lines]).encode("latin-1"))
    items, _ = listed(tmp_path)
    broken = {n: item.problem for n, item in enumerate(items) if item.problem}
    assert {n: problem.partition(":")[0] for n, problem in broken.items()} == {
        **dict.fromkeys((1, 3, 6, 10), "malformed_csv"),
        8: "no_url",
    }
    sound = [item.url for item in items if not item.problem]
    assert sound == [f"https://x.test/{n}" for n in range(400) if n not in (1, 3, 6, 8, 10)]
    assert [items[n].known.alt for n in (4, 5, 7, 9)] == ["over several lines", '5" nails', "short", "m\ufffdhle nul"]


def test_broken_lines_are_rows_and_the_others_stay(tmp_path):
    lines = [
        jsonl([C4[0]]),
        b'{"text": "cut o\n',
        b"\n",
        b'["a", "list"]\n',
        '{"text": "mühle"}\n'.encode("cp1252"),
        b'{"text": "half \\ud800 a pair", "url": "\\udfff"}\n',
        b'{"title": "none"}\n',
        b'{"text": "nul \\u0000 inside"}\n',
        b"[" * 100_000 + b"\n",
        b'{"text": "' + b"x" * 10_000_000 + b'"}\n',
        b'{"text": "the last", "url": "\\ud800", "title": ' + json.dumps("é" * 19_000).encode() + b"}",
    ]
    place = tmp_path / "a.jsonl"
    place.write_bytes(b"".join(lines))
    items, _ = listed(place)
    assert [(item.problem or "").partition(":")[0] for item in items] == [
        *("", "malformed_json", "malformed_json", "not_utf8", "not_utf8", "no_text", "", "malformed_json", "", "")
    ]
    found = list(contents(items).values())
    assert found[0] == C4[0]["text"].encode()
    assert (len(found[2]), found[3]) == (10_000_000, b"the last")


def test_broken_parquet(tmp_path):
    place = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(C4), place, row_group_size=10)
    data = place.read_bytes()
    for broken in (data[:-10], data[:60], b"PAR1", data[: len(data) - 8] + b"\xff\xff\xff\x7fPAR1"):
        place.write_bytes(broken)
        items, _ = listed(place)
        assert [item.problem.partition(":")[0] for item in items] == ["corrupt_parquet"]
    latin = pa.array([b"fine", "mühle".encode("cp1252")], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": latin, "url": latin}), place)
    items, _ = listed(place)
    assert list(contents(items).values()) == [b"fine", "mühle".encode("cp1252")]  # the expander refuses it, a row


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_damage_to_parquet_ends(tmp_path_factory, data):
    place = tmp_path_factory.mktemp("damage") / "x"
    pq.write_table(pa.Table.from_pylist(C4[:9]), place, row_group_size=4)
    content = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(4, len(content) - 5))
        content[at : at + 2] = data.draw(st.binary(min_size=2, max_size=2))
    place.write_bytes(content)
    items, ignored = listed(place)
    assert items or ignored


def test_work_without_members_says_that_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "TICK_S", 0.0)
    table, texts, tar = (tmp_path / name for name in ("table.jsonl", "texts.jsonl.gz", "a.tgz"))
    table.write_bytes(jsonl([{"url": "https://x.test/1", "width": 1}] * 50))
    texts.write_bytes(COMPRESS["gz"](jsonl(C4)))
    write_tar(tar, [(f"{n}.jpg", b"J") for n in range(50)])
    for place, job, options in (
        (table, jobs.listing, {}),
        (texts, jobs.unpack, {"first": 1_000_000}),
        (tar, jobs.unpack, {"first": 49}),
    ):
        said = [body["type"] for body, _ in job(Source(str(place), 0, place.stat().st_size), options)]
        assert said.count("tick") >= len(C4), place
