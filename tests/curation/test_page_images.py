"""Images of pages that were made to mislead, and rows of documents that are not what their columns promise."""

import json
import time

import pytest
from warcs import record, write_warc

from reelmill.archives.html import page_text
from reelmill.archives.page_images import MAX_SAID, MOST, joined
from reelmill.curation.readers import find_reader

WORDS = "The river above the mill does most of its work at night, when nobody looks, and the people know it. " * 3
SITE = "https://mills.test/a/page.html"


def images(body, head="", url=SITE):
    page = f"<!DOCTYPE html><html><head>{head}</head><body><main>{body}</main></body></html>"
    _, known = page_text(page.encode(), None, url)
    return known.get("reelmill.images", [])


def test_addresses_are_those_that_a_browser_would_ask():
    tags = ["b.jpg", "/c.jpg", "//cdn.test/d.jpg", "../e.jpg", "https://x.test/f.jpg?w=1&amp;h=2"]
    body = f"<p>{WORDS}</p>" + "".join(f'<p><img src="{tag}"></p>' for tag in tags)
    assert [image["url"] for image in images(body)] == [
        "https://mills.test/a/b.jpg",
        "https://mills.test/c.jpg",
        "https://cdn.test/d.jpg",
        "https://mills.test/e.jpg",
        "https://x.test/f.jpg?w=1&h=2",
    ]
    [image] = images(f"<p>{WORDS}</p><img src=g.jpg>", head='<base href="https://other.test/dir/">')
    assert image["url"] == "https://other.test/dir/g.jpg"


@pytest.mark.parametrize(
    "source", ["", " ", "data:image/gif;base64,R0lGODlhAQABAAAAACw=", "file:///etc/passwd", "javascript:alert(1)",
               "ftp://x.test/a.jpg", "https://[bad/a.jpg", "https://x.test/" + "a" * 900]
)  # fmt: skip
def test_what_is_no_address_on_the_web_is_left_out(source):
    assert images(f'<p>{WORDS}</p><img src="{source}">') == []


def test_a_page_of_nothing_but_images_stays_within_bounds():
    began = time.process_time()
    many = images(f"<p>{WORDS}</p>" + "<img src='a.jpg' alt='x'>" * 50_000)
    assert len(many) == MOST
    long = images(f"<p>{WORDS}</p>" + f"<img src='{'a' * 700}.jpg' alt='{'b' * 5000}'>" * 200)
    assert len(json.dumps(long)) < MAX_SAID + 10_000
    assert time.process_time() - began < 30  # 50,000 tags: what is quadratic in them takes hours


def test_marks_that_a_page_brings_itself_move_nothing_out_of_order():
    own = "".join(f"<p>\ufffc{number}\ufffc {WORDS}</p>" for number in (1, 0, 7, 99999))
    found = images(f"<p>&#65532;1&#65532; {WORDS}</p><img src=a.jpg>{own}<img src=b.jpg>")
    assert [image["url"].rpartition("/")[2] for image in found] == ["a.jpg", "b.jpg"]
    assert [image["position"] for image in found] == sorted(image["position"] for image in found)


def test_menus_and_footers_are_no_place_for_images():
    parts = "".join(f"<{tag}><img src={tag}.jpg></{tag}>" for tag in ("nav", "aside", "footer", "noscript"))
    [image] = images(f"{parts}<p>{WORDS}</p><img src=in.jpg>")
    assert image["url"] == "https://mills.test/a/in.jpg"


def test_lists_that_do_not_agree():
    urls = [None, "https://x.test/a.jpg", "file:///a.jpg", None, "https://y.test/b"]
    text, found = joined(["One.", None, 3, "Two."], urls)
    assert (text, [image["url"] for image in found]) == ("One.\n\nTwo.", ["https://x.test/a.jpg"])
    assert joined([], []) == ("", [])
    assert joined([None], ["https://x.test/a.jpg"])[1][0]["position"] == 0


def test_a_crawl_of_such_pages_is_listed_whole(tmp_path):
    bodies = [b"<html>" + b"<img src=a>" * 1000, b"<html><body>\0\xff\xfe<img src=\xff>", b"<html><p>" + WORDS.encode()]
    records = [record(f"https://x.test/{n}", body, "text/html") for n, body in enumerate(bodies)]
    place = write_warc(tmp_path / "crawl.warc.gz", records)
    items = list(find_reader(place).items(place))
    assert len(items) == 3
    assert items[2].problem is None
