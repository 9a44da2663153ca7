"""Texts as they are read: encodings, repairs, masks, division, and what is known of each in the ledger's rows."""

import codecs
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation import scoring
from reelmill.curation.expanders.text import text_clip
from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import ItemScorer
from reelmill.curation.text_bundles import TEXT_EXPANDER, batches
from reelmill.curation.texts.cleaning import clean
from reelmill.curation.texts.masking import mask
from reelmill.curation.texts.splitting import spans
from reelmill.curation.texts.words import split_words
from reelmill.errors import Refused
from reelmill.media.encoding import decode
from reelmill.media.source import Source
from reelmill.pipelines.curate import recipes

RUSSIAN = "Мельница стоит у реки с ранней весны, и это не последний год, когда крестьяне привозят сюда зерно. " * 8
CHINESE = "这座磨坊从早春开始就一直在转动，农民们每周都把谷物送到这里来，磨坊主人很高兴。" * 8
JAPANESE = "川のほとりの水車は早春から回り続けていて、農家の人々は毎週穀物を運んできます。" * 8
FRENCH = "Le moulin près de la rivière tourne depuis l'été dernier, et les fermiers s'en réjouissent déjà.\n" * 8
KINDS = ("mail", "phone", "ip", "key")


@pytest.mark.parametrize(
    ("text", "encoding", "told_by"),
    [
        (RUSSIAN, "windows-1251", "guessed"),
        (RUSSIAN, "koi8-r", "guessed"),
        (CHINESE, "gb18030", "guessed"),
        (CHINESE, "big5", None),
        (JAPANESE, "shift_jis", "guessed"),
        (JAPANESE, "euc-jp", "guessed"),
        (FRENCH, "windows-1252", "guessed"),
        (FRENCH, "utf-8", "utf-8"),
        (FRENCH, "utf-16-le", "guessed"),
    ],
)
def test_text_without_a_declaration_is_read(text, encoding, told_by):
    if told_by is None:
        text, told_by = "這座磨坊從早春開始就一直在轉動，農民們每週都把穀物送到這裡來，磨坊主人很高興。" * 8, "guessed"
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert (codecs.lookup(decoded.encoding).name, decoded.told_by) == (codecs.lookup(encoding).name, told_by) or (
        decoded.encoding in ("gbk", "gb18030")
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_wins(encoding):
    decoded = decode(FRENCH.encode(encoding), "koi8-r")
    assert (decoded.text, decoded.told_by) == (FRENCH, "bom")


def test_what_is_declared_is_asked_before_guessing_and_after_utf_8():
    short = "Ça va?"
    assert decode(short.encode("iso-8859-15"), "nonsense", "iso-8859-15").told_by == "declared"
    assert decode(short.encode("iso-8859-15"), "iso-8859-15").text == short
    assert decode(short.encode(), "iso-8859-15") == decode(short.encode())


def test_a_few_lines_of_another_encoding_are_read_as_they_were_written():
    lines = [FRENCH.strip().encode()] * 99
    lines.insert(50, "Caf\u00e9 cr\u00e8me".encode("windows-1252"))
    decoded = decode(b"\n".join(lines))
    assert (decoded.encoding, decoded.told_by) == ("utf-8", "mixed")
    assert "\nCaf\u00e9 cr\u00e8me\n" in decoded.text and decoded.text.count("rivi\u00e8re") == 99 * 8


def test_nul_is_no_text():
    with pytest.raises(Refused, match=r"^not_text"):
        decode(b"words and \0 words")


def test_mojibake_is_repaired_and_what_only_looks_odd_is_not():
    wrong = FRENCH.encode().decode("windows-1252")
    text, repaired = clean(wrong)
    assert (text, repaired) == (FRENCH.strip(), 8)
    for right in (FRENCH, RUSSIAN, CHINESE, "\u201cquotes\u201d and ﬁ and Ｗｉｄｅ ¯\\_(ツ)_/¯", "Ã is a letter"):
        assert clean(right) == (right.strip(), 0)


def test_characters_are_composed_and_what_is_not_seen_is_removed():
    text, _ = clean("\ufeffcafe\u0301\r\nso\u00adft \u200bzero\x07\u202e  \u2028next\n\n\n\n\nend\t \n")
    assert text == "café\nsoft zero\nnext\n\nend"


@pytest.mark.parametrize(
    ("text", "masked", "kind"),
    [
        ("write to Anna.Bell+mill@post.example.org.", "write to [mail].", "mail"),
        ("call +49 (0)30 901820 today", "call [phone] today", "phone"),
        ("call (212) 555-0123 or 212-555-0123", "call [phone] or [phone]", "phone"),
        ("手机 13812345678，谢谢", "手机 [phone]，谢谢", "phone"),
        ("from 203.0.114.7 at noon", "from [ip] at noon", "ip"),
        ("IP:203.0.114.7, not 1203.0.114.7", "IP:[ip], not 1203.0.114.7", "ip"),
        ("from 2606:4700:4700::1111 at noon", "from [ip] at noon", "ip"),
        ("key AKIA" + "ABCDEFGH12345678", "key [key]", "key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[key]", "key"),
    ],
)
def test_personal_data_is_masked_and_counted(text, masked, kind):
    found, counts = mask(text, KINDS)
    assert (found, counts[kind]) == (masked, masked.count(f"[{kind}]"))
    assert sum(counts.values()) == counts[kind]
    assert mask(text, [])[0] == text


@pytest.mark.parametrize(
    "text",
    [
        "In 1984 and 1985, 2,500,000 sacks; page 123-456; ISBN 978-3-16-148410-0; 3.14159265358979",
        "version 1.2.3.4.5 of 127.0.0.1 and 192.168.0.1, at 12:30:45, a::b, C++ std::vector",
        "me @ home, @handle, a@b, risk-free and task-oriented",
        "2026-11-30 20:14 +02:00, 100-200-300, 12.11.2026",
    ],
)
def test_other_numbers_are_left_alone(text):
    assert mask(text, KINDS)[0] == text


def test_masking_takes_no_long_time_over_what_is_made_to_hold_it_up():
    for piece in ("-eyJ", "a%", "+1 2", "a@b.", "1.", "f:", "-----BEGIN PRIVATE KEY-----\n", "sk-a-"):
        text = piece * (200_000 // len(piece))
        assert len(mask(text, KINDS)[0]) > 0  # 0.2 MB each: a pattern that backtracks would take minutes


@given(st.text(st.sampled_from("ab .!\n。"), max_size=400), st.integers(1, 90))
@settings(max_examples=200, deadline=None)
def test_a_long_text_is_divided_without_loss(text, most):
    text = text.strip()
    parts = spans(text, most)
    assert all(0 < stop - start <= most and text[start:stop].strip() for start, stop in parts)
    inside = {place for start, stop in parts for place in range(start, stop)}
    assert sum(stop - start for start, stop in parts) == len(inside)
    assert not "".join(c for place, c in enumerate(text) if place not in inside).strip()


def test_parts_end_with_paragraphs_then_sentences():
    text = "One two three.\n\nFour five. Six seven.\n\nTen."
    assert [text[a:b] for a, b in spans(text, 30)] == ["One two three.\n\n", "Four five. Six seven.\n\nTen."]
    assert spans("One two. Three four five six.", 14)[0] == (0, len("One two. "))
    assert spans(text, 0) == [(0, len(text))]


def test_words_of_scripts_with_and_without_blanks():
    assert split_words("Don't stop, well-known mills...") == ["Don't", "stop", ",", "well-known", "mills", "..."]
    assert split_words("水车在 turn。") == ["水", "车", "在", "turn", "。"]


ODD_TEXTS = st.text(st.sampled_from("aZ0_'’-.,:… \t\n\u00a0\u3000é水ก!#$\x1c٣"), max_size=60)


@given(ODD_TEXTS)
@settings(max_examples=300, deadline=None)
def test_words_are_the_same_by_the_quick_patterns_and_by_the_one_for_all_scripts(text):
    assert split_words(text) == split_words(f"{text} 水")[:-1]
    assert split_words(text) == split_words(f"{text} é")[:-1]


@given(ODD_TEXTS)
@settings(max_examples=300, deadline=None)
def test_blanks_at_ends_of_lines_and_gaps_are_removed_and_nothing_else(text):
    lines = text.replace("\x1c", "").split("\n")
    wanted = re.sub("\n{3,}", "\n\n", "\n".join(line.rstrip(" \t\u00a0") for line in lines)).strip()
    assert clean(text)[0] == wanted


@given(
    st.lists(
        st.sampled_from(["8.8.4.4", "10.0.0.1", "2606:4700::11", "a::b", "1:2:3:4:5:6:7:8", ".", ":", " ", "é", "9"])
    )
)
@settings(max_examples=300, deadline=None)
def test_addresses_are_found_whatever_else_the_text_holds(pieces):
    text, others = "".join(pieces), " 10.0.0.1 ::1"  # these are nobody's, and the patterns run over the text for them
    masked, counts = mask(text, ["ip"])
    assert mask(text + others, ["ip"]) == (masked + others, counts)


@pytest.fixture(scope="module")
def scorer():
    recipe = recipes.load("text", ["score.decode.text.max_chars=3000"])
    made = ItemScorer(recipe.score, recipe.rules)
    yield made
    made.close()


def plan_row(path):
    known = {"unit": 0, "item_id": path.name, "uri": path.name, "kind": "text", "path": str(path), "offset": 0}
    return {**dict.fromkeys(PLAN.names), **known, "size": path.stat().st_size if path.exists() else 9}


def scored(scorer, path):
    return scorer.score(plan_row(path))


def test_rows_say_what_was_found_and_done(scorer, tmp_path):
    (tmp_path / "a.txt").write_bytes((RUSSIAN + "\n\nПишите: miller@post.example.org").encode("windows-1251"))
    item, (sample,) = scored(scorer, tmp_path / "a.txt")
    assert (item["status"], item["codec"]) == ("done", codecs.lookup("windows-1251").name)
    assert (sample["encoding_from"], sample["masked_mails"], sample["masked_keys"]) == ("guessed", 1, 0)
    assert (sample["text_language"], sample["gopher_stop_words"] >= 2) == ("ru", True)
    assert sample["text_last"] - sample["text_first"] == len(RUSSIAN.strip()) + len("\n\nПишите: [mail]")


def test_parts_of_a_long_text_are_samples_of_their_own(scorer, tmp_path):
    paragraph = "The river turns the mill, and the mill turns the grain into flour. " * 12
    (tmp_path / "long.txt").write_text("\n\n".join([paragraph] * 9))
    item, samples = scored(scorer, tmp_path / "long.txt")
    assert item["n_samples"] == len(samples) == 3
    assert len({sample["sample_id"] for sample in samples}) == 3
    assert [s["text_first"] for s in samples[1:]] == [s["text_last"] for s in samples[:-1]]
    assert {(s["start_s"], s["end_s"], s["score_error"]) for s in samples} == {(0.0, 0.0, None)}


def test_texts_of_a_bundle_have_the_rows_that_they_have_alone(scorer, tmp_path):
    paths = [tmp_path / f"{n}.txt" for n in range(6)]
    data = [RUSSIAN.encode("koi8-r"), b"", FRENCH.encode(), b"a\0b", FRENCH.encode() * 9, b"x" * 3_000_000]
    for path, text in zip(paths, data, strict=True):
        path.write_bytes(text)
    paths.append(tmp_path / "gone.txt")
    items = [plan_row(path) for path in paths]
    together = [row for batch in batches(items, TEXT_EXPANDER) for row in scorer.score_texts(batch)]
    assert together == [scorer.score(item) for item in items]
    assert [row["status"] for row, _ in together] == [
        "done",
        "refused",
        "done",
        "refused",
        "done",
        "refused",
        "refused",
    ]
    assert [len(batch) for batch in batches(items, TEXT_EXPANDER)] == [5, 1, 1]
    assert {len(batch) for batch in batches(items, "my.module:expand")} == {1}


def test_a_text_that_kills_its_child_costs_itself_alone(scorer, tmp_path, monkeypatch):
    """The child of a bundle ends early here; each text is then read alone."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(FRENCH)
    monkeypatch.setattr(scoring, "JOB", "os:abort")
    found = scorer.score_texts([plan_row(tmp_path / "a.txt"), plan_row(tmp_path / "b.txt")])
    assert [row["status"] for row, _ in found] == ["done", "done"]


def test_images_stay_where_they_were_while_the_text_is_cleaned_and_divided(tmp_path):
    raw = "One\u200b two.  \n\n\n\n\nMail a.b@example.org now.\n\nThree \ufffc7\ufffc four.\n\nFive six."
    (tmp_path / "page.txt").write_text(raw)
    text = {"clean": True, "mask": ["mail"], "max_chars": 0}
    options = {"max_text_bytes": 1000, "text": text}
    marks = [0, raw.index("Mail"), raw.index("Three"), raw.index("Three"), len(raw)]
    kept = "One two.\n\nMail [mail] now.\n\nThree  7  four.\n\nFive six."
    cut = kept.index("Three")
    parts = [{"key": "a", "first": 0, "last": cut}, {"key": "b", "first": cut, "last": len(kept)}]
    clips = [{**part, "marks": marks} for part in parts]
    source = Source(str(tmp_path / "page.txt"), 0, len(raw.encode()))
    first, second = (a["text"].tobytes().decode() for _, a in text_clip(source, {**options, "clips": clips}))
    assert first == "<0>One two.\n\n<1>Mail [mail] now.\n\n".replace("<", "\ufffc").replace(">", "\ufffc")
    assert second == "<2><3>Three  7  four.\n\nFive six.<4>".replace("<", "\ufffc").replace(">", "\ufffc")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b" \n\t\r\n", "empty"), ("\u200b\ufeff".encode(), "empty"), (b"a\0b", "not_text")],
)
def test_what_is_no_text_is_a_row_with_a_reason(scorer, tmp_path, data, reason):
    (tmp_path / "a.txt").write_bytes(data)
    item, samples = scored(scorer, tmp_path / "a.txt")
    assert (item["status"], item["reason"].partition(":")[0], samples) == ("refused", reason, [])
