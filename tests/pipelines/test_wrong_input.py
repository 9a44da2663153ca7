"""Wrong input, whatever command gets it: one line that says what is wrong and an exit code, never a traceback."""

import struct
import zlib

import pytest
from command_line import CommandLine
from odd_media import cut, film, pictures
from odd_pictures import png, saved
from PIL import Image
from toy_run import toy_run

TOKENIZER = "reelmill-tok-xs"


def bomb(path):
    """A picture that claims 60,000 × 60,000 pixels."""
    data = bytearray(png(pictures(1)[0]))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)


FILES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "latin": lambda path: path.write_bytes("ein Mühlrad ".encode("latin-1") * 40),
    "archive": lambda path: path.write_bytes(b"PK\3\4 torn off"),
    "brace": lambda path: path.write_bytes(b'{"a": [1, '),
    "list": lambda path: path.write_bytes(b"[1, 2, 3]\n"),
    "nested": lambda path: path.write_bytes(b"[" * 100_000),
    "surrogate": lambda path: path.write_bytes(b'{"prompt": "\\ud800", "id": "\\udfff"}\n'),
    "number": lambda path: path.write_bytes(b'{"prompt": 1e999, "id": NaN, "conversations": 7}\n'),
    "picture": lambda path: path.write_bytes(saved(Image.fromarray(pictures(1)[0]), format="PNG")),
    "torn": lambda path: path.write_bytes(saved(Image.fromarray(pictures(1)[0]), format="PNG")[:900]),
    "bomb": bomb,
    "cut": lambda path: cut(film(path, pictures(10), container="mp4", muxing={"movflags": "faststart"}), 0.6),
}
MEDIA = ("missing", "folder", "empty", "zeros", "latin", "torn", "bomb", "cut")
"""What no command can take for a picture or a video."""
TEXTS = ("missing", "folder", "empty", "zeros", "archive", "latin", "brace", "list", "nested", "number", "picture")
"""What is no prompts, no conversations, no codes, no recipe."""
RECIPES = tuple(kind for kind in TEXTS if kind != "empty")
"""What is no recipe: an empty one says nothing that is wrong."""
FOLDERS = ("missing", "empty", "folder", "picture")
"""What is no run folder, no training run, no model."""
COMMANDS = {
    "generate --image": (
        MEDIA,
        ("generate", "{model}", "--prompt", "a mill", "--image", "{file}", "--seconds", 1, "--out", "{new}.mp4"),
    ),
    "generate --video": (
        MEDIA,
        ("generate", "{model}", "--prompt", "a mill", "--video", "{file}", "--seconds", 1, "--out", "{new}.mp4"),
    ),
    "generate MODEL": (FOLDERS, ("generate", "{file}", "--prompt", "a mill", "--out", "{new}.png")),
    "ask": (MEDIA, ("ask", "{model}", "{file}")),
    "ask MODEL": (FOLDERS, ("ask", "{file}", "{picture}")),
    "serve MODEL": (FOLDERS, ("serve", "{file}")),
    "train RECIPE": (RECIPES, ("train", "{file}.toml", "--data", "{out}", "--out", "{new}")),
    "train --data": (FOLDERS, ("train", "tiny", "--data", "{file}", "--out", "{new}")),
    "export": (FOLDERS, ("export", "{file}", "{new}")),
    "tokenizer encode": (MEDIA, ("tokenizer", "encode", TOKENIZER, "{file}", "{new}.npz")),
    "tokenizer encode NAME": (
        ("missing", "folder", "empty", "picture"),
        ("tokenizer", "encode", "{file}", "{picture}", "{new}.npz"),
    ),
    "tokenizer decode": (TEXTS, ("tokenizer", "decode", TOKENIZER, "{file}", "{new}.png")),
    "tokenizer train --data": (
        ("missing", "empty", "folder", "latin", "bomb"),
        ("tokenizer", "train", TOKENIZER, "--data", "{file}", "--out", "{new}"),
    ),
    "tokenizer train RECIPE": (RECIPES, ("tokenizer", "train", "{file}.toml", "--data", "{dump}", "--out", "{new}")),
    "eval reconstruction": (MEDIA, ("eval", "reconstruction", TOKENIZER, "{file}")),
    "chat import": (
        (*TEXTS, "surrogate"),
        ("chat", "import", "{file}.jsonl", "--out", "{new}", "--tokenizer", TOKENIZER, "--text", "bytes"),
    ),
    "chat import .json": (
        (*TEXTS, "surrogate"),
        ("chat", "import", "{file}.json", "--out", "{new}", "--tokenizer", TOKENIZER, "--text", "bytes"),
    ),
    "tokens import": (
        (*TEXTS, "surrogate"),
        ("tokens", "import", "{file}.jsonl", "--out", "{new}", "--tokenizer", TOKENIZER, "--text", "bytes"),
    ),
    "prefer sample": (
        ("missing", "folder", "empty", "zeros", "latin", "picture"),
        ("prefer", "sample", "{model}", "--prompts", "{file}", "--out", "{new}"),
    ),
    "prefer vote": (FOLDERS, ("prefer", "vote", "{file}", "--from", "{latin}")),
    "prefer build": (FOLDERS, ("prefer", "build", "{file}")),
    "prefer compare": (FOLDERS, ("prefer", "compare", "{file}")),
    "curate --recipe": (RECIPES, ("curate", "{dump}", "--out", "{new}", "--recipe", "{file}.toml")),
    "curate DUMP": (("missing",), ("curate", "{file}", "--out", "{new}", "--recipe", "sample")),
    "recipe show": (RECIPES, ("recipe", "show", "{file}.toml")),
    "caption run": (FOLDERS, ("caption", "run", "{file}", "--source", "endpoint")),
    "caption export": (FOLDERS, ("caption", "export", "{file}", "{new}.jsonl")),
    **{words: (FOLDERS, (*words.split(), "{file}")) for words in ("stats", "verify", "report")},
    "sql": (FOLDERS, ("sql", "{file}", "SELECT 1")),
    "explain": (FOLDERS, ("explain", "{file}", "x")),
    "select": (FOLDERS, ("select", "{file}", "mine")),
    "clips export": (FOLDERS, ("clips", "export", "{file}", "{new}")),
}

WHOLE = ("-1", "1.5", "x", "")
NUMBERS = {
    ("generate", "{model}", "--prompt", "a mill", "--out", "{new}.png"): {
        "--temperature": ("-1", "nan", "inf", "x"),
        "--top-p": ("-1", "nan", "2", "x"),
        "--top-k": WHOLE,
        "--guidance": ("nan", "inf", "x"),
        "--count": ("0", *WHOLE),
        "--seed": ("x", "1.5"),
        "--seconds": ("-1", "nan", "inf", "x"),
    },
    ("ask", "{model}", "{picture}"): {
        "--temperature": ("-1", "nan", "x"),
        "--top-p": ("-1", "nan", "2"),
        "--top-k": WHOLE,
    },
    ("tokenizer", "encode", TOKENIZER, "{picture}", "{new}.npz"): {
        "--area": ("-1", "1000000000", "x"),
        "--fps": ("0", "-1", "nan", "inf", "x"),
    },
    ("eval", "reconstruction", TOKENIZER, "{picture}"): {"--size": ("0", "-1", "1000000000", "x")},
    ("prefer", "sample", "{model}", "--prompt", "a mill", "--out", "{new}"): {
        "--count": ("0", *WHOLE),
        "--temperature": ("-1", "nan"),
        "--top-p": ("-1", "nan"),
        "--top-k": ("-1", "x"),
    },
    ("prefer", "build", "{picture}"): {"--least-voters": ("0", "-1"), "--margin": ("-1", "nan")},
    ("train", "tiny", "--data", "{out}", "--out", "{new}"): {
        "--set": (
            "steps=-1",
            "steps=0",
            "optimizer.lr=nan",
            "optimizer.lr=-1",
            "data.context=0",
            "data.batch_rows=0",
            "model.heads=0",
            "model.layers=-1",
            "steps=x",
            "nothing=1",
            "=",
            "",
        ),
        "--ray": ("-1", "x"),
    },
    ("tokenizer", "train", TOKENIZER, "--data", "{dump}", "--out", "{new}"): {
        "--share": ("-1", "0.9", "nan"),
        "--set": ("steps=-1", "optimizer.lr=nan", "data.batch=0", "x"),
        "--until": ("-1", "x"),
    },
    ("curate", "{dump}", "--out", "{new}", "--recipe", "{light}", "--executor", "inline"): {
        "--limit": ("-1", "x"),
        "--workers": ("-1", "x"),
        "--set": (
            "score.decode.max_bytes=-1",
            "tokens.fps=0",
            "tokens.fps=nan",
            "tokens.fps=-1",
            "tokens.area=-1",
            "tokens.area=0",
            "score.decode.sample_fps=0",
            "score.decode.short_side=0",
            "plan.unit_items=0",
            "score.decode.animations=film",
            "rules.colour.min=nan",
            "score.scenes.max_s=0",
            "score.scenes.max_s=nan",
            "score.decode.max_duration_s=nan",
        ),
    },
    ("select", "{out}", "mine"): {
        "--keep": ("0", "2", "-1", "nan", "x"),
        "--set": ("tokens.fps=-1", "tokens.fps=nan", "rules.colour.min=x"),
    },
    ("clips", "export", "{out}", "{new}"): {"--shard-mb": ("0", "-1", "x"), "--kind": ("sound",)},
    ("caption", "export", "{out}", "{new}.jsonl"): {"--frames": ("0", "-1", "x")},
    ("chat", "import", "{picture}", "--out", "{new}", "--tokenizer", TOKENIZER): {
        "--min-pixels": ("-1", "x"),
        "--max-pixels": ("0", "-1"),
    },
    ("serve", "{model}"): {"--port": ("-1", "99999", "x"), "--queue": ("-1", "x")},
}


@pytest.fixture(scope="module")
def made(small_run, tmp_path_factory):
    """A run folder, a model, and one file of every kind under names with every ending that a command asks for."""
    place = tmp_path_factory.mktemp("wrong")
    out = small_run(place)
    for name, write in FILES.items():
        for ending in ("", ".toml", ".json", ".jsonl"):
            write(place / f"{name}{ending}")
    (place / "model").mkdir()
    return {"out": out, "dump": place / "dump", "model": toy_run(place / "model"), "place": place}


@pytest.fixture
def reelmill(monkeypatch, capsys):
    return CommandLine(monkeypatch, capsys)


SLOW = ("ask", "chat import .json", "tokens import", "generate --video", "prefer sample", "tokenizer train RECIPE")
"""What takes long, or is like another."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in COMMANDS]
)
def test_files(made, reelmill, tmp_path, name):
    kinds, words = COMMANDS[name]
    known = {"new": tmp_path / "new", "picture": made["place"] / "picture", "latin": made["place"] / "latin"}
    wrong = {}
    for kind in kinds:
        given = {**made, **known, "file": made["place"] / kind}
        try:
            ended = reelmill(*(str(word).format(**given) for word in words))
        except Exception as error:
            wrong[kind] = repr(error)[:300]
            continue
        if ended.code not in (2, 3, 4, 5) or not ended.err.startswith("error:") or "See `reelmill" in ended.err:
            wrong[kind] = f"{ended.code} {ended.out[-200:]} {ended.err[-300:]}"
    assert wrong == {}


@pytest.mark.parametrize("words", NUMBERS, ids=lambda words: " ".join(map(str, words[:2])).replace(" {model}", ""))
def test_numbers(made, reelmill, tmp_path, words):
    place = made["place"]
    given = {**made, "new": tmp_path / "new", "picture": place / "picture", "light": place / "light.toml"}
    command, wrong = [str(word).format(**given) for word in words], {}
    for option, values in NUMBERS[words].items():
        for value in values:
            try:
                ended = reelmill(*command, option, value)
            except Exception as error:
                wrong[option, value] = repr(error)[:300]
                continue
            if ended.code not in (2, 3, 4, 5) or not ended.err.startswith("error:"):
                wrong[option, value] = f"{ended.code} {ended.out[-200:]} {ended.err[-300:]}"
    assert wrong == {}
