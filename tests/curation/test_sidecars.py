"""Sidecars are untrusted text: whatever lies there, a caption is one line of printable text and nothing crashes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.sidecars import MAX_BYTES, MAX_TEXT, Sidecar, read_sidecar
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
        read_sidecar(source(place, {"caption": "\n", "alt": None, "alt_text": ["x"], "title": "last"}), None).alt
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
    assert read_sidecar(gone, gone).problem.startswith("unreadable_json: ")
    assert "unreadable_text: " in read_sidecar(gone, gone).problem


@pytest.mark.parametrize("value", [1, 1.5, True, None, [], ["a"], {"en": "a"}, ""])
def test_values_of_the_wrong_type_are_no_captions(place, value):
    assert read_sidecar(source(place, dict.fromkeys(("alt", "licence", "url", "source"), value)), None) == Sidecar()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("two\r\nlines\tand  more", "two lines and more"),
        ("\x1b[31mred\x07", "[31mred"),
        ("right\u202eto left\u2028line", "right to left line"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("\u200d\u200c", None),
        ("👨\u200d👩\u200d👧 می\u200cخواهم", "👨\u200d👩\u200d👧 می\u200cخواهم"),
        ("<|BOS|> & </s>", "<|BOS|> & </s>"),
        ("x" * (MAX_TEXT + 5), "x" * MAX_TEXT),
    ],
)
def test_a_caption_is_one_line_of_printable_text(place, written, read):
    assert read_sidecar(source(place, {"alt": written}), None).alt == read


scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters())
keys = st.sampled_from(["alt", "caption", "licence", "license", "url", "source", "text"]) | st.text(max_size=5)
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))


def assert_printable(found):
    for text in (found.alt, found.licence, found.url, found.source):
        assert text is None or (text.replace("\u200d", "").replace("\u200c", "").isprintable() and text.strip() == text)
        assert text is None or 0 < len(text.encode()) <= 4 * MAX_TEXT
    (found.problem or "").encode()


@settings(deadline=None)
@given(st.dictionaries(keys, documents, max_size=6))
def test_any_json(place, document):
    assert_printable(read_sidecar(source(place, document), None))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(place, data):
    found = read_sidecar(source(place, data), source(place, data, "a.txt"))
    assert_printable(found)
