"""Conversations that others wrote become a run folder: formats, hostile rows, kills."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reelmill.curation.pictures import PixelBounds, size_within
from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.cli import app
from reelmill.pipelines.imports import chat as chat_import
from reelmill.pipelines.imports import chat_rows
from reelmill.pipelines.imports.chat import ChatImport, import_chats
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize import vision
from reelmill.tokenize.documents import parse
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader

HUMAN, GPT = "human", "gpt"
LLAVA = [
    {
        "id": "1",
        "image": "red.png",
        "conversations": [
            {"from": HUMAN, "value": "What colour?\n<image>"},
            {"from": GPT, "value": "Red."},
            {"from": HUMAN, "value": "Sure?"},
            {"from": GPT, "value": "Yes."},
        ],
    },
    {"id": "2", "conversations": [{"from": HUMAN, "value": "One and one?"}, {"from": GPT, "value": "Two"}]},
]
SHAREGPT = [
    {
        "images": ["red.png", "deep/blue.jpg"],
        "source": "web",
        "licence": "CC0-1.0",
        "conversations": [
            {"from": "system", "value": "Be short."},
            {"from": "user", "value": "Is <image>\n like <image>?"},
            {"from": "assistant", "value": "No"},
        ],
    },
    {
        "images": ["red.png"],
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "red.png"}, {"type": "text", "text": "Describe"}]},
            {"role": "assistant", "content": "It is red"},
        ],
    },
    {"texts": ["first", None, "then", None], "images": [None, "red.png", None, "deep/blue.jpg"]},
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep").mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "red.png")
    Image.new("RGB", (40, 40), "blue").save(folder / "deep" / "blue.jpg")
    Image.new("RGB", (300, 20), "green").save(folder / "long.png")
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "script.png").write_text("<svg/>")
    return folder


@pytest.fixture(scope="module")
def how(pictures):
    tokenizer = vision.load("reelmill-tok-xs")
    vocab = Vocabulary("bytes", tokenizer.codes)
    return ChatImport(pictures, tokenizer, "reelmill-tok-xs", vocab, PixelBounds(32 * 32, 48 * 48))


def written(path, rows):
    lines = path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1), encoding="utf-8")
    return path


def said(out):
    """(kind, text with a mark for each picture, answers) of each document."""
    corpus = Corpus([out], "default", DataConfig(heldout=0.0))
    found = []
    for number, tokens in enumerate(corpus.read(np.arange(len(corpus)))):
        edges = corpus.answers(number).reshape(-1, 2).tolist()
        words = corpus.vocab.tokenizer.decode
        document = parse(corpus.vocab, tokens)
        found.append((document.kind, "#".join(document.texts), [words(tokens[a:b].tolist()) for a, b in edges]))
    return corpus, found


SYSTEM = "You are a helpful assistant. USER: "


@pytest.mark.parametrize(("name", "rows"), [("llava.json", LLAVA), ("llava.jsonl", LLAVA)])
def test_llavas_conversations(tmp_path, how, name, rows):
    folder = import_chats(written(tmp_path / name, rows), tmp_path / "out", how, lambda _: None)
    corpus, found = said(tmp_path / "out")
    assert found == [
        (
            "interleaved",
            f"{SYSTEM}#What colour?. ASSISTANT: Red. USER: Sure?. ASSISTANT: Yes.",
            [" Red.", " Yes."],
        ),
        ("text", f"{SYSTEM}One and one?. ASSISTANT: Two", [" Two"]),
    ]
    (block,) = parse(corpus.vocab, corpus.view(0)).blocks
    assert (block.header.h, block.header.w) == (5, 6), "48 x 64 pixels scaled down to at most 48 x 48, shape kept"
    checked = verify(folder)
    assert (checked.problems, checked.documents) == ([], 2)


def test_sharegpt_messages_and_pictures_between_texts(tmp_path, how):
    import_chats(written(tmp_path / "rows.jsonl", SHAREGPT), tmp_path / "out", how, lambda _: None)
    corpus, found = said(tmp_path / "out")
    assert found == [
        ("interleaved", "Be short. USER: Is#like#?. ASSISTANT: No", [" No"]),
        ("interleaved", f"{SYSTEM}#Describe. ASSISTANT: It is red", [" It is red"]),
        ("interleaved", "first#then#", []),
    ]
    one, two = parse(corpus.vocab, corpus.view(0)).blocks
    assert (one.header.h, one.header.w, two.header.h, two.header.w) == (5, 6, 5, 5)
    loader = Loader(corpus, np.arange(3), DataConfig(context=400, batch_rows=4, heldout=0.0), seed=0)
    weights = sum(float(batch.weights.sum()) for batch in loader.micro_batches(0, 0))
    last = parse(corpus.vocab, corpus.view(2))
    mixed = len(last.tokens) - 1 - 0.5 * last.n_vision
    assert weights == len(" No It is red") + 2 + mixed, "of the conversations the answers and EOS after each"


def bad(**change):
    return {**LLAVA[0], **change}


def turn(question, answer):
    return [{"from": HUMAN, "value": question}, {"from": GPT, "value": answer}]


BAD = [
    (bad(image="gone.png"), "no picture 'gone.png'"),
    (bad(image="../out/secret.png"), "no picture"),
    (bad(image="/etc/hostname"), "no picture"),
    (bad(image="https://a.b/c.png"), "no picture"),
    (bad(image="a\0b"), "no picture"),
    (bad(image="broken.png"), "corrupt"),
    (bad(image="script.png"), "not_an_image"),
    (bad(image="long.png"), "too_long: 300x20"),
    (bad(image="."), "no picture"),
    (bad(image=["red.png", "red.png"]), "1 <image> for 2 pictures"),
    (bad(image=None), "1 <image> for 0 pictures"),
    (bad(image=["red.png"] * 300), "300 pictures"),
    (bad(image=7), "name of a picture"),
    (bad(video="a.mp4"), "video"),
    (bad(conversations=[]), "neither"),
    (bad(conversations=turn("<image>", " ")), "answer of turn 1 is empty"),
    (bad(conversations=turn("<image>?", "yes") + turn("", "no")), "question of turn 2 is empty"),
    (bad(conversations=turn("<image>?", "yes")[:1]), "1 messages"),
    (bad(conversations=turn("<image>?", "yes")[::-1]), "turn 1 is by assistant and user"),
    (bad(conversations=[{"from": "humn", "value": "x"}]), "did you mean 'human'"),
    (bad(conversations=[{"from": "human", "value": 3}]), "must be text"),
    (bad(conversations=["x"]), "a message is a JSON object"),
    ({"texts": ["a", None], "images": [None, None]}, "one has null"),
    ({"texts": ["a"], "images": []}, "one length"),
    ("words", "a row is a JSON object"),
]


def test_a_bad_row_ends_the_import_by_its_name(tmp_path, how):
    source = written(tmp_path / "rows.json", [LLAVA[1], BAD[0][0], LLAVA[1]])
    with pytest.raises(DataError, match=r"row rows\.json#2: there is no picture 'gone\.png'"):
        import_chats(source, tmp_path / "out", how, lambda _: None)
    assert not (tmp_path / "out").exists()


def test_bad_rows_can_be_refused_and_say_why(tmp_path, how):
    rows = [LLAVA[1], *(row for row, _ in BAD), LLAVA[1]]
    folder = import_chats(written(tmp_path / "rows.json", rows), tmp_path / "out", skipping(how), lambda _: None)
    items = folder.read(folder.unit_path("items", 0)).to_pylist()
    done = [item["uri"] for item in items if item["status"] == "done"]
    assert done == ["rows.json#1", f"rows.json#{len(rows)}"]
    refused = [item for item in items if item["status"] == "refused"]
    for number, (item, (_, words)) in enumerate(zip(refused, BAD, strict=True), 2):
        assert item["uri"] == f"rows.json#{number}"
        assert words in item["reason"]
    assert verify(folder).problems == []


def skipping(how):
    return ChatImport(how.pictures, how.tokenizer, how.tokenizer_name, how.vocab, how.bounds, skip_bad=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"conversations": '),
        ("a.json", '{"conversations": []}'),
        ("a.json", "[" * 100_000),
        ("a.json", '[{"conversations": NaN}]'),
        ("a.jsonl", "{]"),
        ("a.jsonl", "[" * 100_000),
        ("a.json", "[]"),
        ("a.jsonl", "\n\n"),
    ],
)
def test_files_that_are_no_json_or_empty_are_refused(tmp_path, how, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"a\.json"):
        import_chats(tmp_path / name, tmp_path / "out", how, lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_link_out_of_the_folder_is_no_picture(tmp_path, how, pictures):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "red.png").symlink_to(pictures / "red.png")
    elsewhere = ChatImport(tmp_path / "inside", how.tokenizer, "reelmill-tok-xs", how.vocab, how.bounds)
    with pytest.raises(DataError, match=r"no picture 'red\.png'"):
        import_chats(written(tmp_path / "rows.json", LLAVA), tmp_path / "out", elsewhere, lambda _: None)


def test_a_killed_import_goes_on_where_it_was(tmp_path, how, monkeypatch):
    monkeypatch.setattr(chat_import, "UNIT_ROWS", 2)
    rows = [bad(conversations=turn("<image>?", f"red {n}")) for n in range(7)]
    source = written(tmp_path / "rows.jsonl", [*rows[:3], "nonsense", *rows[3:]])
    whole = import_chats(source, tmp_path / "whole", skipping(how), lambda _: None)

    committed, commit = [], chat_import._commit

    def dying(*args):
        if len(committed) == 2:
            raise KeyboardInterrupt
        committed.append(args[1])
        commit(*args)

    monkeypatch.setattr(chat_import, "_commit", dying)
    with pytest.raises(KeyboardInterrupt):
        import_chats(source, tmp_path / "out", skipping(how), lambda _: None)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(chat_import, "_commit", commit)
    with pytest.raises(ConfigError, match="unfinished import"):
        import_chats(source, tmp_path / "out", how, lambda _: None)
    lines = []
    out = import_chats(source, tmp_path / "out", skipping(how), lines.append)
    assert lines[0] == "goes on after 4 rows"
    assert said(out.root)[1] == said(whole.root)[1]
    assert verify(out).problems == []


def test_long_lists_are_read_row_by_row_and_rows_have_a_bound(tmp_path, monkeypatch):
    rows = [{"conversations": turn(f"question {n} [,] \\ {{", "é" * n)} for n in range(1, 60)]
    source = written(tmp_path / "rows.json", rows)
    read = list(chat_rows.chat_rows(source))
    assert [row.place for row in read] == [f"rows.json#{n}" for n in range(1, 60)]
    assert [row.turns[0][1] for row in read] == [["é" * n] for n in range(1, 60)]
    monkeypatch.setattr(chat_rows, "LONGEST", 100)  # a row may be longer by the piece in which its end is found
    with pytest.raises(DataError, match=r"rows\.json, row 1: longer than"):
        list(chat_rows.chat_rows(written(tmp_path / "rows.json", [{"conversations": turn("a", "b" * 200_000)}])))


def test_the_command(tmp_path, how, pictures):
    source = written(tmp_path / "rows.json", LLAVA)
    options = ["--images", str(pictures), "--tokenizer", "reelmill-tok-xs", "--text", "bytes", "--min-pixels", "1024"]
    command = ["chat", "import", str(source), "--out", str(tmp_path / "out"), *options, "--max-pixels", "2304"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "unit 0: 2 documents" in done.output
    assert RunFolder(tmp_path / "out").exists()
    assert isinstance(CliRunner().invoke(app, command).exception, ConfigError)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (512, 512)), ((480, 640), (480, 640)), ((2000, 1000), (1448, 720)), ((100, 300), (296, 888))],
)
def test_sizes_of_pictures(size, expected):
    assert size_within(*size, PixelBounds(), 8) == expected


def test_sizes_are_those_of_emu3s_image_processor():
    from reelmill.compat import torchvision

    torchvision()
    from transformers.models.emu3.image_processing_emu3 import smart_resize

    rng = np.random.default_rng(0)
    bounds = PixelBounds()
    for _ in range(3000):
        height = int(np.exp(rng.uniform(np.log(20), np.log(6000))))
        width = max(1, int(height * np.exp(rng.uniform(np.log(0.2), np.log(5)))))
        ours = size_within(height, width, bounds, 8)
        assert ours == smart_resize(height, width, 8, bounds.least, bounds.most)
        assert bounds.least <= ours[0] * ours[1] <= bounds.most
