"""Sidecars are untrusted text: whatever lies there, a caption is one line of printable text and nothing crashes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.sidecars import MAX_BYTES, Sidecar, read_sidecar
from reelmill.curation.text_cleaning import MAX_TEXT, clean_text
from reelmill.errors import DataError
from reelmill.media.source import Source


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sidecars")


def source(place, data, name="a.json"):
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    (place / name).write_bytes(data)
    return Source(str(place / name), 0, len(data))


def test_the_keys_of_common_crawls(place):
    found = {"caption": " A cat. ", "alt": "other", "license": "CC-BY-4.0", "URL": "https://x.test/1", "dataset": "web"}
    assert read_sidecar(source(place, found), None) == Sidecar("A cat.", "CC-BY-4.0", "https://x.test/1", "web")


def test_the_json_s_caption_wins_and_the_text_s_fills_in(place):
    text = source(place, b"from the text\n", "a.txt")
    assert read_sidecar(source(place, {"alt": "from the json"}), text).alt == "from the json"
    assert read_sidecar(source(place, {"alt": " ", "licence": "CC0"}), text).alt == "from the text"
    assert read_sidecar(None, text).alt == "from the text"
    assert read_sidecar(None, None) == Sidecar()


def test_an_empty_name_falls_to_the_next(place):
    assert (
        read_sidecar(
            source(place, {"caption": "\n", "alt": None, "alt_text": [], "text": [" "], "title": "last"}), None
        ).alt
        == "last"
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "malformed_json: "),
        (b"{", "malformed_json: "),
        (b"\xff\xfe{\x00}\x00", "malformed_json: 'utf-8' codec"),
        (b"[]", "malformed_json: an object is wanted, found list"),
        (b'"text"', "malformed_json: an object is wanted, found str"),
        (b"null", "malformed_json: an object is wanted, found NoneType"),
        (b"[" * 200_000, "malformed_json: "),
        (b'{"a":' * 150_000, "malformed_json: "),
        (b'{"alt": ' + b"9" * 10_000 + b"}", "malformed_json: "),
        (b" " * (MAX_BYTES + 1), f"json_too_large: {MAX_BYTES + 1} bytes, allowed {MAX_BYTES}"),
    ],
)
def test_what_cannot_be_read_is_a_problem_in_the_ledger(place, data, problem):
    found = read_sidecar(source(place, data), source(place, b"still used", "a.txt"))
    assert found.problem.startswith(problem)
    assert (found.alt, found.licence) == ("still used", None)


def test_a_text_too_large_or_gone(place):
    big = source(place, b"x" * (MAX_BYTES + 1), "a.txt")
    assert read_sidecar(None, big).problem == f"text_too_large: {MAX_BYTES + 1} bytes, allowed {MAX_BYTES}"
    gone = Source(str(place / "gone"), 0, 1)
    for json_source, text_source in ((gone, None), (None, gone)):
        with pytest.raises(DataError, match="is gone"):  # the machine's fault: the item is tried again
            read_sidecar(json_source, text_source)


@pytest.mark.parametrize(
    ("found", "alt"),
    [
        ({"caption": ["first", "second"]}, "first"),
        ({"caption": [None, " ", 7, "words"]}, "words"),
        ({"captions": ["first", "second"]}, "first"),
        ({"captions": [{"caption": "first", "id": 1}, {"caption": "second"}]}, "first"),
        ({"captions": [["nested"]]}, "nested"),
        ({"Caption": "a"}, "a"),
        ({"TEXT": "a"}, "a"),
        ({"Alt-Text": "a"}, "a"),
        ({"altText": "a"}, "a"),
        ({"title": "A mill", "description": "It grinds."}, "A mill. It grinds."),
        ({"title": "What?", "description": "It grinds."}, "What? It grinds."),
        ({"title": "水车。", "description": "在河边"}, "水车。 在河边"),
        ({"title": "A mill", "description": "A mill that grinds."}, "A mill that grinds."),
        ({"Title": ["A mill"]}, "A mill"),
        ({"description": "It grinds."}, "It grinds."),
        ({"caption": "wins", "title": "A mill", "description": "It grinds."}, "wins"),
        ({"caption": "", "captions": [], "text": None, "title": "A mill"}, "A mill"),
    ],
)
def test_where_captions_stand(place, found, alt):
    assert read_sidecar(source(place, found), None) == Sidecar(alt)


@pytest.mark.parametrize(
    ("value", "licence"),
    [
        ("CC0-1.0", "CC0-1.0"),
        (4, "4"),
        (4.0, "4"),
        (2.5, "2.5"),
        (0, "0"),
        (10**400, "1" + "0" * 400),
        (["CC-BY-4.0"], "CC-BY-4.0"),
        (["CC-BY-4.0", "GFDL-1.3", "CC-BY-4.0"], "CC-BY-4.0; GFDL-1.3"),
        ({"name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}, "CC BY 4.0"),
        ({"url": "https://creativecommons.org/licenses/by/4.0/"}, "https://creativecommons.org/licenses/by/4.0/"),
        ({"id": 4, "Name": "CC BY 2.0"}, "CC BY 2.0"),
        ({"name": "", "id": 4}, "4"),
        ([{"type": "MIT"}, {"type": "GPL"}, 7], "MIT; GPL; 7"),
    ],
)
def test_how_licences_are_stated(place, value, licence):
    assert read_sidecar(source(place, {"license": value}), None) == Sidecar(licence=licence)


def test_urls_and_sources_as_lists_and_objects(place):
    found = {"url": ["https://x.test/1", "https://x.test/2"], "dataset": {"name": "web", "id": 3}}
    assert read_sidecar(source(place, found), None) == Sidecar(url="https://x.test/1", source="web")


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"caption": 1}, "unusable_caption: caption is 1"),
        ({"caption": True}, "unusable_caption: caption is true"),
        ({"caption": {"en": "a", "de": "b"}}, "unusable_caption: caption is an object of en, de"),
        ({"captions": [1, 2]}, "unusable_caption: captions is a list of 2"),
        ({"licence": True}, "unusable_licence: licence is true"),
        ({"License": {"terms": "ask"}}, "unusable_licence: License is an object of terms"),
        ({"licence": float("nan")}, "unusable_licence: licence is NaN"),
        ({"url": 7}, "unusable_url: url is 7"),
        ({"source": False}, "unusable_source: source is false"),
        ({"description": {}, "title": [[[[[["deep"]]]]]]}, "unusable_title: title is a list of 1"),
        ({"caption": 1, "license": []}, "unusable_caption: caption is 1"),
        ({"caption": 1, "licence": False}, "unusable_caption: caption is 1; unusable_licence: licence is false"),
        ({"prompt": "a mill", "seed": 3}, "unknown_keys: prompt, seed"),
    ],
)
def test_what_cannot_be_used_is_recorded(place, found, problem):
    assert read_sidecar(source(place, found), None) == Sidecar(problem=problem)


def test_an_unusable_value_is_recorded_where_another_serves(place):
    found = read_sidecar(source(place, {"caption": {"en": "a"}, "title": "A mill"}), None)
    assert found == Sidecar("A mill", problem="unusable_caption: caption is an object of en")


@pytest.mark.parametrize("value", [None, [], {}, "", " ", "\u200b", [None, ""], [[]]])
def test_values_that_state_nothing_are_no_problem(place, value):
    assert read_sidecar(source(place, dict.fromkeys(("alt", "licence", "url", "source"), value)), None) == Sidecar()


def test_a_text_that_is_not_utf8_is_recorded(place):
    found = read_sidecar(None, source(place, "caf\u00e9 noir".encode("latin-1"), "a.txt"))
    assert found == Sidecar("caf\ufffd noir", problem="text_not_utf8: byte 3")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("two\r\nlines\tand  more", "two lines and more"),
        ("\x1b[31mred\x07", "[31mred"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("<|BOS|> & </s>", "<|BOS|> & </s>"),
        ("x" * (MAX_TEXT + 5), "x" * MAX_TEXT),
        # invisible: deleted, so that words stay whole
        ("soft\u00adhyphen", "softhyphen"),
        ("word\u2060joiner", "wordjoiner"),
        ("zero\u200bwidth\ufeff space", "zerowidth space"),
        ("right\u202eto left\u202c \u200fand\u200e \u2067iso\u2069lated\u061c", "rightto left and isolated"),
        ("line\u2028one\u2029two\u0085three", "line one two three"),
        ("smuggled\U000e0068\U000e0069", "smuggled"),
        ("math\u2061\u2062\u2063\u2064 \u180e\ufff9a\ufffab\ufffb", "math ab"),
        # seen, or shaping what is seen: kept
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\u06dd\u0661 \u0600\u0662", "\u06dd\u0661 \u0600\u0662"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("🏳\ufe0f\u200d🌈 🏳\ufe0f\u200d⚧\ufe0f", "🏳\ufe0f\u200d🌈 🏳\ufe0f\u200d⚧\ufe0f"),
        ("1\ufe0f\u20e3 👍🏽 🇩🇪", "1\ufe0f\u20e3 👍🏽 🇩🇪"),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("葛\U000e0100", "葛\U000e0100"),
        ("new \U0001fae9 \U0001fbff", "new \U0001fae9 \U0001fbff"),  # assigned after Unicode 14, and not yet
        ("\ufdd0\uffff\U0001fffe", None),
        ("\u200d\u200c", None),
        ("\ufe0f\u200d \u00ad", None),
    ],
)
def test_a_caption_is_one_line_of_what_is_seen(written, read):
    assert clean_text(written) == read
    assert clean_text(read or "") == read


scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters())
keys = st.sampled_from(
    ["alt", "caption", "captions", "Title", "description", "licence", "license", "url", "source"]
) | st.text(max_size=5)
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


def assert_clean(found):
    for text in (found.alt, found.licence, found.url, found.source):
        assert text is None or clean_text(text) == text
        assert text is None or 0 < len(text.encode()) <= 4 * MAX_TEXT
    (found.problem or "").encode()


@settings(deadline=None)
@given(st.dictionaries(keys, documents, max_size=6))
def test_any_json(place, document):
    assert_clean(read_sidecar(source(place, document), None))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(place, data):
    found = read_sidecar(source(place, data), source(place, data, "a.txt"))
    assert_clean(found)
