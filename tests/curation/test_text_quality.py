"""The published filters of texts: values against datatrove's own filters, bounds as rules, languages by two models."""

from importlib.metadata import distribution

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)

from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.ledger import PLAN, samples_schema
from reelmill.curation.scorers import create
from reelmill.curation.scoring import ItemScorer, score_columns, score_fingerprint
from reelmill.curation.texts.words import split_words
from reelmill.pipelines.curate import recipes

NO_FRAMES = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))
PROSE = (
    "The river above the mill does most of its work at night. In the hills it gathers from a hundred small places, "
    "and none of these would carry a leaf very far. Together they carry branches, with all that grows on them.\n"
)
PACKAGES = ("numpy", "ftfy", "pytest", "torch", "duckdb", "rich", "hypothesis", "fsspec", "httpx2", "ruff", "pillow")


def texts():
    """Descriptions of installed packages, whole and in pieces, and texts that each filter is made for."""
    found = [distribution(name).read_text("METADATA").partition("\n\n")[2] for name in PACKAGES]
    pieces = [text[at : at + 1500] for text in found for at in range(0, min(len(text), 15_000), 1500)]
    made = [
        PROSE * 4,
        PROSE + "Lorem ipsum dolor sit amet.\n",
        "\n".join(f"- item {n}" for n in range(40)),
        "Read more...\n" * 20,
        "# # # # # # # # # and # # # the",
        "\n\n".join([PROSE.strip(), "short"] * 9),
        "if (a) { return 1. }\n" * 9 + PROSE,
        "This site uses cookies.\nPlease enable Javascript now.\n" * 4,
        "word " * 300,
        "a b c d e f g h i j k l m n o p q r s t u v w x y z.\n" * 7,
        "One.",
    ]
    return [text for text in [*found, *pieces, *made] if text.strip()]


def measured(text, names, language="en"):
    columns = {"text_language": language}
    for name in names:
        sample = Sample("s", "i", "text", 0.0, 0.0, 0, 0, 0.0, NO_FRAMES, columns, text=text)
        scorer = create(name)
        scorer.setup()
        columns |= scorer.score([sample])[0]
    return columns


@pytest.fixture
def same_words(monkeypatch):
    """datatrove splits words with spaCy or NLTK; here both sides count the same ones."""
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        monkeypatch.setattr(module, "split_into_words", lambda text, language: split_words(text))


OFF = dict.fromkeys(
    ("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio",
     "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words")
)  # fmt: skip
GOPHER = [
    ("gopher_words", "min", 50, {"min_doc_words": 50}),
    ("gopher_word_length", "min", 4.5, {"min_avg_word_length": 4.5}),
    ("gopher_word_length", "max", 5, {"max_avg_word_length": 5}),
    ("gopher_hashes", "max", 0.01, None),
    ("gopher_ellipses", "max", 0.01, None),
    ("gopher_bullet_lines", "max", 0.1, {"max_bullet_lines_ratio": 0.1}),
    ("gopher_ellipsis_lines", "max", 0.01, {"max_ellipsis_lines_ratio": 0.01}),
    ("gopher_alphabetic", "min", 0.7, {"max_non_alpha_words_ratio": 0.7}),
    ("gopher_stop_words", "min", 2, {"min_stop_words": 2}),
]


@pytest.mark.parametrize(("column", "side", "bound", "options"), GOPHER)
def test_gopher_quality_decides_as_datatrove_does(same_words, column, side, bound, options):
    options = {"max_symbol_word_ratio": 0.01} if options is None else options
    theirs = gopher_quality_filter.GopherQualityFilter(**{**OFF, **options})
    outcomes = set()
    for text in texts():
        value = measured(text, ["gopher_quality"])
        failed = value[column] is not None and (value[column] < bound if side == "min" else value[column] > bound)
        if "max_symbol_word_ratio" in options:  # one bound of theirs for both
            failed = max(value["gopher_hashes"], value["gopher_ellipses"]) > bound
        outcomes.add(failed)
        assert failed == (theirs.filter(Document(text, "1")) is not True), text[:200]
    assert outcomes == {True, False}


def test_gopher_repetition_measures_what_datatrove_measures(same_words):
    """The values themselves: theirs are inside the filter, from the functions that it is made of."""
    theirs = gopher_repetition_filter
    for text in texts():
        value = measured(text, ["gopher_repetition"])
        words, size = split_words(text), len(text)
        paragraphs = theirs.find_duplicates(theirs.re.split(r"\n{2,}", text.strip()))
        lines = theirs.re.split("\n+", text)
        assert value["gopher_repeated_paragraph_chars"] == pytest.approx(paragraphs[1] / size)
        assert value["gopher_repeated_lines"] == pytest.approx(theirs.find_duplicates(lines)[0] / len(lines))
        for n in (2, 3, 4):
            grams = theirs.get_n_grams(words, n)
            assert value[f"gopher_top_{n}grams"] == pytest.approx(
                theirs.find_top_duplicate(grams) / size if grams else 0
            )
        for n in range(5, 11):
            assert value[f"gopher_repeated_{n}grams"] == pytest.approx(theirs.find_all_duplicate(words, n) / size)


def rejected(values, stage):
    """For each text, given its columns, whether a rule of this stage of the recipe `text` rejects it."""
    recipe = recipes.text()
    schema = samples_schema(score_columns(recipe.score))
    failed = " OR ".join(rule.failed_sql() for rule in recipe.rules.values() if rule.stage == stage)
    rows = [{**dict.fromkeys(schema.names), **value, "kind": "text"} for value in values]
    table = pa.Table.from_pylist(rows, schema=schema)
    with duckdb.connect() as connection:
        connection.register("texts", table)
        return [found for (found,) in connection.execute(f"SELECT {failed} FROM texts").fetchall()]


FAMILIES = {
    "gopher_repetition": ("repetition", gopher_repetition_filter.GopherRepetitionFilter),
    "gopher_quality": ("quality", gopher_quality_filter.GopherQualityFilter),
    "fineweb": ("fineweb", fineweb_quality_filter.FineWebQualityFilter),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipes_rules_reject_what_datatroves_filters_reject(same_words, family):
    stage, filter_class = FAMILIES[family]
    ours = rejected([measured(text, [family]) for text in texts()], stage)
    theirs = [filter_class().filter(Document(text, "1")) is not True for text in texts()]
    assert ours == theirs
    assert set(ours) == {True, False}


def test_c4_counts_the_lines_that_datatrove_keeps(monkeypatch):
    """Sentences are told apart by rule here and by a tokenizer there: the lines are the same, counts need not be."""
    monkeypatch.setattr(c4_filters, "split_into_sentences", lambda text, language: [text])
    dropped = set()
    for text in texts():
        value = measured(text, ["c4"])
        theirs = c4_filters.C4QualityFilter(min_num_sentences=0, remove_citations=False)
        document = Document(text, "1")
        outcome = theirs.filter(document)
        if outcome is not True:
            dropped.add(outcome[1])
            assert value["c4_lorem_ipsum" if outcome[1] == "lorem_ipsum" else "c4_curly_bracket"]
            continue
        assert not value["c4_lorem_ipsum"] and not value["c4_curly_bracket"]
        chars = sum(map(len, document.text.split("\n")))
        assert value["c4_kept"] == pytest.approx(chars / len(text))
    assert dropped == {"lorem_ipsum", "curly_bracket"}
    assert measured("He came. She went! Did they? Yes.\nNo end here\n", ["c4"])["c4_sentences"] == 4


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (PROSE, "en"),
        ("Die Mühle am Fluss dreht sich seit dem Frühling, und die Bauern bringen jede Woche ihr Korn dorthin.", "de"),
        ("这座磨坊从早春开始就一直在转动，农民们每周都把谷物送到这里来。", "zh"),
        ("這座磨坊從早春開始就一直在轉動，農民們每週都把穀物送到這裡來。", "zh-Hant"),
        ("川のほとりの水車は早春から回り続けていて、農家の人々は毎週穀物を運んできます。", "ja"),
        ("Все люди рождаются свободными и равными в своём достоинстве, и никто не стоит за другим.", "ru"),
        ("الطاحونة على النهر تدور من أوائل الربيع، وكان الناس في القرية لا يعملون مع هذا الماء.", "ar"),
        ("הטחנה ליד הנהר מסתובבת מאז תחילת האביב, והאיכרים לא מביאים לכאן את התבואה שלהם כי הוא רחוק.", "he"),
    ],
)
@pytest.mark.parametrize("scorer", ["language", "lid176"])
def test_languages(scorer, text, language):
    value = measured(text, [scorer, "gopher_quality"], None)
    assert value["text_language"] == (language if scorer == "language" else language.removesuffix("-Hant"))
    assert 0.9 < value["text_language_share"] <= 1
    assert value["gopher_stop_words"] >= 2


def test_a_text_in_two_languages_and_one_in_none():
    mixed = measured(PROSE + "这座磨坊从早春开始就一直在转动，农民们每周都把谷物送到这里来。" * 5, ["language"])
    assert 0.2 < mixed["text_language_share"] < 0.8
    for scorer in ("language", "lid176"):
        nothing = measured("1234 5678\n91011 !!! ???", [scorer, "gopher_quality"])
        asked = ("text_language", "text_language_share", "gopher_stop_words")
        assert [nothing[column] for column in asked] == [None, None, None]


def test_a_recipe_may_ask_fasttexts_model_for_languages(tmp_path):
    recipe = recipes.load("text", ["score.scorers.language.use=lid176"])
    assert score_columns(recipe.score) == score_columns(recipes.text().score)
    assert score_fingerprint(recipe.score) != score_fingerprint(recipes.text().score)
    (tmp_path / "a.txt").write_text(PROSE * 3)
    known = {"unit": 0, "item_id": "a", "uri": "a.txt", "kind": "text", "path": str(tmp_path / "a.txt"), "offset": 0}
    scorer = ItemScorer(recipe.score, recipe.rules)
    try:
        _, (row,) = scorer.score({**dict.fromkeys(PLAN.names), **known, "size": len(PROSE * 3)})
    finally:
        scorer.close()
    assert (row["text_language"], row["score_error"]) == ("en", None)
