"""Pages of a crawl as interleaved documents: text and pictures in reading order, decorations out, reasons kept."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dumps import jpeg
from PIL import Image
from rich.console import Console
from warcs import record, write_warc

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.tokenize import documents
from reelmill.tokenize.shards import ShardIndex

FIRST = """The river above the mill does most of its work at night, when nobody looks. In the hills it gathers from a
hundred small places: a wet meadow, a ditch beside a road, a spring under a stone that the sheep know about."""
SECOND = """The people who built mills understood this and were patient. They did not look for the largest water but for
the steadiest. A stream that is loud in March and silent in August turns a wheel for half a year. Write to
the.miller@post.example.org, if you do not believe it."""
THIRD = """When the last mill stopped, the pond filled with reeds and the dam grew willows. The river found its old bed
within two winters, as if it had kept a map. Only the stones remember."""
SITE = "https://mills.test"


def html(body):
    menu = "<nav><ul><li><a href=/><img src=/menu.jpg>Home</a></li></ul></nav>"
    return f"<!DOCTYPE html><html><body>{menu}<main>{body}</main><footer>All ours.</footer></body></html>".encode()


def flat(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 90)).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = html(
    f"""<h1>Mills</h1><p>{FIRST}</p><figure><img src="a.jpg" alt="A wheel  in May"><figcaption>May</figcaption></figure>
    <p>{SECOND}</p><div><img data-src="/pages/b.jpg" src="/wait.gif"><img src="gone.jpg"><img src="small.png">
    <img src="banner.png"><img src="/site-logo.jpg"><img src="everywhere.jpg"></div><p>{THIRD}</p><img src="copy.jpg">
    """
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    dump, out = place / "dump", place / "out"
    dump.mkdir()
    images = {"a": jpeg(1), "b": jpeg(2), "copy": jpeg(1), "everywhere": jpeg(3)}
    records = [record(f"{SITE}/pages/{name}.jpg", data, "image/jpeg") for name, data in images.items()]
    records += [record(f"{SITE}/pages/small.png", flat(40, 40)), record(f"{SITE}/pages/banner.png", flat(900, 200))]
    records.append(record(f"{SITE}/site-logo.jpg", jpeg(4)))
    records.insert(2, record(f"{SITE}/pages/one.html", PAGE))
    seconds = [SECOND.replace("mills", f"mills {n}") for n in range(3)]
    others = [html(f"<p>{second}</p><img src=everywhere.jpg><p>{FIRST}</p>") for second in seconds]
    records += [record(f"{SITE}/pages/{n}.html", data) for n, data in enumerate(others)]
    write_warc(dump / "crawl.warc.gz", records)
    row = {"images": [None, f"{SITE}/pages/b.jpg", None], "texts": [FIRST, None, THIRD], "metadata": "[]"}
    pq.write_table(pa.Table.from_pylist([row]), dump / "obelics.parquet")
    (dump / "mint.jsonl").write_text(
        json.dumps({"texts": [SECOND + THIRD, None], "images": [None, f"{SITE}/pages/a.jpg"]}) + "\n{}\n"
    )
    recipe = recipes.load(
        "web",
        [
            'engine.executor="inline"', 'tokens.text="bytes"', "tokens.tokenizer=reelmill-tok-xs", "tokens.area=4096",
            "tokens.interleaved.max_pages=3", "rules.quality.min=0", "duplicates.near=false",
            "score.decode.text.max_chars=0",
        ],
    )  # fmt: skip
    curate([dump], out, recipe, CurateOptions(), Console(quiet=True))
    return out


def page_images(out, where):
    with LedgerQueries(out) as ledger:
        query = f"SELECT p.* FROM page_images p JOIN items i USING (item_id) WHERE {where} ORDER BY number"
        return ledger.rows(query)


def test_each_image_of_a_page_is_in_or_out_with_a_reason(out):
    rows = page_images(out, "i.url LIKE '%one.html'")
    assert [(row["url"].rpartition("/")[2], row["left_out"]) for row in rows] == [
        ("a.jpg", None),
        ("b.jpg", None),
        ("gone.jpg", "not_in_dump"),
        ("small.png", "tiny"),
        ("banner.png", "odd_ratio"),
        ("site-logo.jpg", "decoration"),
        ("everywhere.jpg", "repeated"),
        ("copy.jpg", None),
    ]
    assert rows[0]["alt"] == "A wheel in May"
    assert rows[0]["image_id"] == rows[-1]["image_id"]  # the copy stands for the first one


def documents_of(out, where):
    index = ShardIndex(out)
    with LedgerQueries(out) as ledger:
        [row] = ledger.rows(f"SELECT item_id, status, rule FROM samples WHERE {where} AND kind = 'text'")
    assert row["status"] == "kept", row["rule"]
    places = [n for n, item_id in enumerate(index.strings("item_id")) if item_id == row["item_id"]]
    return [documents.parse(index.footer.vocab, ids) for ids in index.read(places)], row["item_id"]


def plain(text):
    return " ".join(text.split())


def test_text_and_pictures_come_in_reading_order(out):
    [document], item_id = documents_of(out, "url LIKE '%one.html'")
    assert document.kind == "interleaved"
    texts = [plain(text) for text in document.texts]
    assert len(document.blocks) == 3
    assert texts[0] == plain(f"Mills {FIRST}")
    assert texts[1] == plain(SECOND.replace("the.miller@post.example.org", "[mail]"))
    assert texts[2] == plain(THIRD)
    with LedgerQueries(out) as ledger:
        [row] = ledger.rows("SELECT blocks FROM tokens WHERE item_id = $1", [item_id])
    assert [block["kind"] for block in row["blocks"]] == ["text", "text", "image", "text", "image", "text", "image"]
    assert {block["item_id"] for block in row["blocks"] if block["kind"] == "text"} == {item_id}


def test_a_page_without_good_images_is_a_text(out):
    [document], _ = documents_of(out, "url LIKE '%/0.html'")
    assert document.kind == "text"


@pytest.mark.parametrize(
    ("uri", "images"), [("obelics.parquet/00000000.txt", ["b.jpg"]), ("mint.jsonl/0.txt", ["a.jpg"])]
)
def test_the_layouts_of_obelics_and_mint_are_read(out, uri, images):
    [document], _ = documents_of(out, f"uri = '{uri}'")
    assert [row["url"].rpartition("/")[2] for row in page_images(out, f"i.uri = '{uri}'")] == images
    assert len(document.blocks) == 1 and "".join(document.texts).strip()


def test_a_row_without_lists_is_refused(out):
    with LedgerQueries(out) as ledger:
        rows = ledger.rows("SELECT reason FROM items WHERE status = 'refused'")
    assert [row["reason"].partition(":")[0] for row in rows] == ["no_text"]
