"""Recipe `text` from a dump to tokens: what is kept, what is rejected by which rule, and what the documents say."""

import json

import pytest
from command_line import CommandLine
from rich.console import Console

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.tokenize import documents
from reelmill.tokenize.shards import ShardIndex

ENGLISH = """The river above the mill does most of its work at night, when nobody looks. In the hills it gathers from a
hundred small places: a wet meadow, a ditch beside a road, a spring under a stone. None of these would carry a leaf very
far. Together, an hour lower down, they carry branches, and a day lower down they carry the branches of a whole wood.

The people who built mills understood this and were patient. They did not look for the largest water but for the
steadiest. Write to them at the.miller@post.example.org, or do not.
"""
RUSSIAN = """Люди, которые строили мельницы, понимали это и не торопились. Они искали не самую большую воду, а самую
спокойную. Ручей, который громок в марте и тих в августе, крутит колесо половину года и ломает его в другую половину.

Поэтому они ходили по долине, спрашивали стариков, как высоко стояла вода, и смотрели на траву в кустах. Потом они
строили плотину в таком месте, которое всем остальным казалось скучным, и никогда об этом не жалели.
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    place = tmp_path_factory.mktemp("texts")
    dump, out = place / "dump", place / "out"
    dump.mkdir()
    lines = [
        ENGLISH,
        ENGLISH + "The end came soon. " * 40,
        "Too short to say anything.",
        ENGLISH.encode().decode("cp1252") + "Ã©",
    ]
    rows = [json.dumps({"text": text, "url": f"https://x.test/{n}"}) for n, text in enumerate(lines)]
    (dump / "texts.jsonl").write_text("\n".join(rows))
    (dump / "russian.txt").write_bytes(RUSSIAN.encode("koi8-r"))
    recipe = recipes.load(
        "text", ['engine.executor="inline"', 'tokens.text="bytes"', "tokens.tokenizer=reelmill-tok-xs"]
    )
    curate([dump], out, recipe, CurateOptions(), Console(quiet=True))
    return out


def test_each_text_has_its_verdict_and_reason(out):
    with LedgerQueries(out) as ledger:
        rows = ledger.rows("SELECT url, text_language, status, rule, masked_mails FROM samples ORDER BY uri, sample_id")
        judged = {row["url"]: (row["status"], row["rule"]) for row in rows}
    assert judged["https://x.test/0"] == judged[None] == ("kept", None)
    assert judged["https://x.test/1"][0] == "rejected" and "grams" in judged["https://x.test/1"][1]
    assert judged["https://x.test/2"] == ("rejected", "words")
    assert {row["text_language"] for row in rows} == {"en", "ru"}
    assert {row["masked_mails"] for row in rows if row["url"] == "https://x.test/0"} == {1}


def test_documents_hold_the_cleaned_text(out):
    index = ShardIndex(out)
    texts = [documents.parse(index.footer.vocab, ids).texts[0] for ids in index.read(range(len(index)))]
    assert any("[mail], or do not." in text and "@" not in text for text in texts)
    assert any(text.startswith("Люди") for text in texts)


def test_explain_tells_the_reason(out, monkeypatch, capsys):
    with LedgerQueries(out) as ledger:
        (row,) = ledger.rows("SELECT sample_id FROM samples WHERE url = 'https://x.test/2'")
    said = CommandLine(monkeypatch, capsys)("explain", out, row["sample_id"]).out
    assert "rejected" in said and "gopher_words" in said
