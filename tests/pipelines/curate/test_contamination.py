"""Lists of evaluation texts: what holds one is rejected, by the name of the list."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import CommandLine
from dumps import light_recipe
from PIL import Image

from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create
from reelmill.curation.scoring import ScoreConfig
from reelmill.errors import ConfigError
from reelmill.orchestration.views import LedgerQueries

QUESTION = "Which of the seven farms in the valley still pays the miller in flour when the harvest has failed twice?"
PROMPT = "a blue paper boat sails past a red lighthouse"
TALE = """The mill in the valley grinds the corn of seven farms between two stones. {} Nobody in the village knew, and
the miller, who had been asked before, went on mending his sails until the evening came and the wind lay down."""
NO_FRAMES = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))


def lists(folder):
    """The same kind of list in each of its three forms."""
    folder.mkdir(exist_ok=True)
    (folder / "quiz.jsonl").write_text(json.dumps({"id": 7, "question": QUESTION}) + "\n" + json.dumps("A cat?") + "\n")
    (folder / "drawings.txt").write_text(f"{PROMPT}\n\na dog\n", encoding="utf-8")
    pq.write_table(pa.table({"id": [1], "prompt": ["eight words of which not one is elsewhere"]}), folder / "p.parquet")
    return [folder / name for name in ("quiz.jsonl", "drawings.txt", "p.parquet")]


def found(scorer, text=None, alt=None):
    kind = "image" if text is None else "text"
    (row,) = scorer.score([Sample("s", "i", kind, 0.0, 0.0, 0, 0, 0.0, NO_FRAMES, alt=alt, text=text)])
    return row["contaminated_by"]


@pytest.fixture
def scorer(tmp_path):
    made = create("contamination", {"lists": [str(path) for path in lists(tmp_path / "lists")]})
    made.setup()
    return made


@pytest.mark.parametrize(
    ("text", "by"),
    [
        (TALE.format(QUESTION), "quiz"),
        (TALE.format("WHICH OF the seven farms - in the valley - still pays the Miller in flour, he said."), "quiz"),
        (TALE.format("Which of the seven farms in the valley still pays the miller with corn?"), None),  # 12 words
        (TALE.format("A blue paper boat sails past a red lighthouse!"), "drawings"),
        (TALE.format("A blue paper boat sails past a lighthouse."), None),
        (TALE.format("A dog and a cat? Eight words of which not one is elsewhere."), "p"),
        ("a dog", None),  # too short to say anything
        ("", None),
    ],
)
def test_a_text_that_holds_an_entry_or_thirteen_of_its_words(scorer, text, by):
    assert found(scorer, text=text) == by
    assert found(scorer, alt=text or None) == by


def test_the_bounds_are_options(tmp_path):
    names = [str(path) for path in lists(tmp_path / "lists")]
    strict = create("contamination", {"lists": names, "words": 8, "least": 2})
    strict.setup()
    assert found(strict, text="the miller said: seven farms in the valley still pays the") == "quiz"
    assert found(strict, alt="a dog") == "drawings"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv", b"prompt\nx\n", "must end in .txt, .jsonl, .parquet"),
        ("a.jsonl", b'{"image": 3}\n', "neither a text nor an object with one of prompt"),
        ("a.jsonl", b"{", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.txt", b"\n \n", "holds no texts"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=says):
        create("contamination", {"lists": [str(tmp_path / name)]}).setup()


def test_what_holds_an_entry_is_rejected_by_the_command(tmp_path, monkeypatch, capsys):
    dump = tmp_path / "dump"
    dump.mkdir()
    (dump / "tale.txt").write_text(TALE.format("It was a long winter."))
    (dump / "quiz.txt").write_text(TALE.format(QUESTION))
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name, alt in (("boat", PROMPT.upper()), ("mill", "a water mill in a valley, painted in the morning light")):
        Image.fromarray(picture).save(dump / f"{name}.png")
        (dump / f"{name}.json").write_text(json.dumps({"alt": alt}))
        picture = picture[::-1]
    recipe = light_recipe(tmp_path / "light.toml", score=ScoreConfig(scorers={}), rules={})
    command = CommandLine(monkeypatch, capsys)
    names = [argument for path in lists(tmp_path / "lists") for argument in ("--exclude", path)]
    asked = ("curate", dump, "--out", tmp_path / "out", "--recipe", recipe, "--executor", "inline", *names)
    assert command(*asked).code == 0
    with LedgerQueries(tmp_path / "out") as ledger:
        rows = ledger.rows("SELECT uri, status, rule, contaminated_by FROM samples ORDER BY uri")
    assert [tuple(row.values()) for row in rows] == [
        ("boat.png", "rejected", "contamination", "drawings"),
        ("mill.png", "kept", None, None),
        ("quiz.txt", "rejected", "contamination", "quiz"),
        ("tale.txt", "kept", None, None),
    ]
    (tmp_path / "lists" / "drawings.txt").write_text("another prompt of which the words are these ones\n")
    changed = command(*asked)
    assert changed.code == 2 and "Add --update" in changed.err
