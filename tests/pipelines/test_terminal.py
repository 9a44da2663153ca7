"""What stands on a terminal: names, captions and errors are spelled out, whatever they hold."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CommandLine
from dumps import jpeg, light_recipe
from rich.console import Console
from typer.testing import CliRunner

from reelmill.files import write_atomically
from reelmill.orchestration.table_files import read_table, write_table
from reelmill.pipelines import cli
from reelmill.terminal import cell, echo_json, plain, say

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b]0;owned\x07\x1b[2J[/red][bold]x :smile: \u202egpj.\u2066"
SPELLED = r"\x1b]0;owned\x07\x1b[2J[/red][bold]x :smile: \u202egpj.\u2066"


def assert_safe(text):
    assert not (set(filter(lambda c: not c.isprintable(), text)) - set("\n")), ascii(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over a dump whose names, captions, licences and reasons are hostile."""
    place = tmp_path_factory.mktemp("hostile")
    dump = place / f"dump {HOSTILE}".replace("/", "")
    dump.mkdir()
    stated = {"alt": f"caption \u202e{HOSTILE}", "licence": HOSTILE, "source": HOSTILE, "url": HOSTILE}
    name = HOSTILE.replace("/", "")
    (dump / f"{name}.jpg").write_bytes(jpeg(1))
    (dump / f"{name}.json").write_text(json.dumps(stated))
    (dump / f"{name}.mp4").write_bytes(b"no video")
    (dump / f"{name}.txt.md").write_text(HOSTILE * 9)
    (dump / f"x.{name[:8]}").write_text("ignored")
    recipe = light_recipe(place / "light.toml")
    words = ("curate", dump, "--out", place / "out", "--recipe", recipe, "--executor", "inline")
    done = CliRunner().invoke(cli.app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0
    return dump, place / "out", done.output


@pytest.fixture
def reelmill(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


def test_curate_and_its_statistics(made):
    _, _, told = made
    assert_safe(told)
    assert r"\x1b]0;owned\x07" in told
    assert r"\u202e" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats", "{out}"),
        ("sql", "{out}", "SELECT * FROM items"),
        ("sql", "{out}", "SELECT * FROM samples"),
        ("sql", "{out}", "SELECT list(uri) AS uris, [uri, uri, uri, uri, uri, uri, uri, uri, uri, uri, uri, uri, uri] "
                         "AS many, struct_pack(a := licence) AS s FROM samples GROUP BY uri, licence"),
        ("sql", "{out}", "SELECT 1 AS \"\x1b[31m[/]\""),
        ("sql", "{out}", "SELECT \u202e\x1b[31m"),
        ("explain", "{out}", "{sample}"),
        ("explain", "{out}", "x\x1b[2J"),
        ("explain", "{out}", HOSTILE.replace("/", "") + ".mp4"),
        ("select", "{out}", "\x1b[31m"),
        ("select", "{out}", "mine", "--set", "rules.colour.min=1000"),
        ("verify", "{out}"),
        ("report", "{out}"),
        ("forget", "{out}", "--uri", "\x1b[2J[/]"),
        ("curate", "/no\x1b[2J[/]", "--out", "{dump}.out", "--recipe", "sample"),
        ("curate", "{dump}", "--out", "{out}", "--recipe", "\x1b[2J[/]"),
        ("curate", "{dump}", "--out", "{out}", "--recipe", "sample", "--set", "\x1b[2J[/]=1"),
        ("curate", "\x1b[2J[/]", "--limit", "\x1b[2J[/]"),
        ("\x1b[2J[/]",),
        ("version", "\x1b[2J[/]", "\udcff"),
        ("stats", "\udcff\x1b[2J"),
    ],
)  # fmt: skip
def test_names_and_captions_are_spelled_out(made, reelmill, arguments):
    dump, out, _ = made
    (sample,) = (
        read_table(out / "samples" / "unit-000000.parquet")
        .filter([kind == "image" for kind in read_table(out / "samples" / "unit-000000.parquet")["kind"].to_pylist()])[
            "sample_id"
        ]
        .to_pylist()
    )
    done = reelmill(*(part.format(out=out, dump=dump, sample=sample) if "{" in part else part for part in arguments))
    assert_safe(done.out)
    assert_safe(done.err)
    assert done.out or done.err
    assert done.code in (0, 2, 4)


def test_json_is_ascii_and_has_no_numbers_that_json_lacks(made, reelmill):
    _, out, _ = made
    query = "SELECT uri, 'nan'::DOUBLE AS a, ['inf'::DOUBLE, 1.5] AS b, {'c': '-inf'::FLOAT} AS d, 2 AS e FROM items"
    done = reelmill("sql", out, query, "--json")
    assert done.code == 0
    assert done.out.isascii()
    rows = json.loads(done.out, parse_constant=pytest.fail)
    assert [{name: row[name] for name in "abde"} for row in rows] == [
        {"a": None, "b": [None, 1.5], "d": {"c": None}, "e": 2}
    ] * 3
    assert any(row["uri"].startswith("\x1b]0;owned") for row in rows)


def test_json_of_explain_and_stats_takes_infinities(made, reelmill, tmp_path):
    import shutil

    _, out, _ = made
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out" / "samples" / "unit-000000.parquet"
    table = read_table(path)
    place = table.column_names.index("colourfulness")
    table = table.set_column(place, table.schema.field(place), [[float("inf")] * len(table)])
    write_atomically(path, lambda temporary: write_table(temporary, table), root=tmp_path / "out")
    sample = next(row["sample_id"] for row in table.to_pylist() if row["kind"] == "image")
    found = json.loads(reelmill("explain", tmp_path / "out", sample, "--json").out, parse_constant=pytest.fail)
    assert found["scores"]["colourfulness"] is None


def test_a_line_on_a_console_is_data_whatever_the_console_makes_of_markup():
    for options in ({}, {"markup": True, "emoji": True}, {"force_terminal": True, "color_system": "truecolor"}):
        console = Console(file=io.StringIO(), width=400, **options)
        say(console, HOSTILE, head=HOSTILE)
        shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
        assert shown == f"{SPELLED} {SPELLED}\n"
    assert cell("two\nlines").plain == r"two\nlines"


def test_joiners_of_emoji_and_words_stay():
    console = Console(file=io.StringIO())
    say(console, "👨\u200d👩\u200d👧 می\u200cخواهم ❤\ufe0f")
    assert console.file.getvalue() == "👨\u200d👩\u200d👧 می\u200cخواهم ❤\ufe0f\n"


def test_plain_goes_through_everything(capsys):
    nan = float("nan")
    assert plain({"a": [nan, (1, -float("inf"))], 2: {"b": nan}}) == {"a": [None, [1, None]], "2": {"b": None}}
    echo_json([nan])
    assert json.loads(capsys.readouterr().out) == [None]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_terminal_takes_any_name(tmp_path, encoding):
    name = os.fsdecode(b"no\xff folder \xc3\xa9 \xe6\xb0\xb4")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-m", "reelmill", "stats", tmp_path / name], capture_output=True, env=environment
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert rb"no\udcff folder" in done.stderr


PRODUCT = sorted(path for room in ("pipelines", "orchestration", "curation") for path in (ROOT / room).rglob("*.py"))


def test_text_reaches_a_terminal_by_one_way():
    """`say`, `echo`, `cell` alone put text on a terminal; a renderable that they made may be printed."""
    wrong = []
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            text = node.args and isinstance(node.args[0], ast.JoinedStr | ast.Constant | ast.BinOp)
            if name in ("typer.echo", "typer.secho") or (name.endswith("console.print") and text):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not wrong


DRY_RUN = ("train", "small", "--dry-run", "--set", "model.vocab_size=4500")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*DRY_RUN, "--gpu-memory", "nan"), 2, "--gpu-memory must"),
        ((*DRY_RUN, "--gpu-memory", "inf"), 2, "--gpu-memory must"),
        ((*DRY_RUN, "--peak", "0"), 2, "--peak must"),
        (("tokenizer", "decode", "reelmill-tok-xs", "/dev/null", "{tmp}/x.png"), 4, ""),
        (("recipe", "show", "{tmp}/folder.toml"), 2, "Is a directory"),
        (("stats", "n" * 300), 4, "File name too long"),
        (("stats", "\udcff"), 2, "an argument is not UTF-8"),
        (("sample-dump", "/dev/null/x"), 4, "check the path"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(reelmill, tmp_path, arguments, code, message):
    (tmp_path / "folder.toml").mkdir()
    done = reelmill(*(part.format(tmp=tmp_path) for part in arguments))
    assert done.code == code, done.err
    assert done.err.strip().startswith("error: ")
    assert message in " ".join(done.err.split())
