"""Codes that others made become a run folder that training, stats, sql and verify read."""

import json
import os
import pickle
import pickletools
import re
import zipfile

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from reelmill.errors import ConfigError, DataError, MachineError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.cli import app
from reelmill.pipelines.curate.stats import gather
from reelmill.pipelines.imports import folder as run_folders
from reelmill.pipelines.imports import tokens as code_files
from reelmill.pipelines.imports.tokens import import_tokens
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize.documents import parse
from reelmill.tokenize.shards import ShardIndex
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.data.loader import Loader

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32
LINES = [
    {"text": "a cat", "codes": [[0, 1, 2], [3, 4, 5]], "source": "web", "licence": "CC0-1.0", "url": "https://a.b/c"},
    {"text": "only a text, with <|image start|> in it"},
    {"text": "a film", "codes": [[[0, 1]], [[2, 3]], [[4, 63]]], "fps": 8, "caption_after": True},
    {"text": "", "codes": [[7]]},
]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def imported(source, out, **rest):
    return import_tokens(source, out, VOCAB, FINGERPRINT, "theirs", rest.pop("say", lambda _: None))


def documents_in(out):
    corpus = Corpus([out], "default", DataConfig(heldout=0.0))
    return [parse(corpus.vocab, tokens) for tokens in corpus.read(np.arange(len(corpus)))]


def test_json_lines_become_documents(tmp_path):
    folder = imported(write_lines(tmp_path / "rows.jsonl", LINES), tmp_path / "out")
    cat, text, film, square = documents_in(tmp_path / "out")
    assert (cat.caption, cat.codes.tolist(), cat.kind) == ("a cat", [LINES[0]["codes"]], "image")
    assert (text.kind, text.caption) == ("text", LINES[1]["text"])
    assert (film.codes.tolist(), film.fps, film.seconds, film.caption_after) == (LINES[2]["codes"], 8.0, 1.5, True)
    assert (square.caption, square.codes.tolist()) == ("", [[[7]]])
    found = verify(folder)
    assert (found.problems, found.documents) == ([], 4)
    tokens = gather(tmp_path / "out")["tokens"]
    assert {(row["kind"], row["source"], row["licence"]) for row in tokens} == {
        ("image", "web", "CC0-1.0"),
        ("image", "(none)", "(none)"),
        ("text", "(none)", "(none)"),
        ("video", "(none)", "(none)"),
    }


def emu3_folder(root, count=5, seed=0):
    """What Emu3's prepare_data.py leaves: feature/*.pth and list/train.json."""
    rng = np.random.default_rng(seed)
    (root / "feature").mkdir(parents=True)
    (root / "list").mkdir()
    samples = []
    for number in range(count):
        images = rng.integers(0, 64, (3 + number, 4)).astype([np.int64, np.int32, np.uint16][number % 3])
        samples.append({"name": f"{number:04}", "images": images, "texts": f"picture {number}"})
        torch.save(samples[-1], root / "feature" / f"{number:04}.pth")
    listed = {"prefix": str(root / "feature"), "path_list": [f"{n:04}.pth" for n in range(count)]}
    (root / "list" / "train.json").write_text(json.dumps(listed))
    return samples


def test_emu3s_folders_become_documents(tmp_path):
    samples = emu3_folder(tmp_path / "theirs")
    (tmp_path / "theirs").rename(tmp_path / "moved")  # the prefix is absolute and no longer true
    folder = imported(tmp_path / "moved/list", tmp_path / "out")
    for sample, document in zip(samples, documents_in(tmp_path / "out"), strict=True):
        assert document.caption == sample["texts"]
        assert np.array_equal(document.codes[0], sample["images"])
    assert verify(folder).problems == []


def test_arrays_pickled_under_numpy_1_load_too(tmp_path):
    emu3_folder(tmp_path, count=1)
    path = tmp_path / "feature/0000.pth"
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    imported(tmp_path / "list/train.json", tmp_path / "out")
    assert len(documents_in(tmp_path / "out")) == 1


class Hostile:
    """Unpickled without care, it makes the folder `trace`."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def trace_of(path):
    return path.with_name("was-run")


def bad_pickle(path):
    torch.save({"name": "x", "images": Hostile(trace_of(path)), "texts": ""}, path)


def plain_pickle(path):
    path.write_bytes(pickle.dumps({"images": np.zeros((2, 2), np.int64), "texts": ""}))


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (run_folders.LONGEST + 1))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (bad_pickle, "holds more than texts"),
        (plain_pickle, "not a zip file"),
        (bomb, "at most 64 MiB"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "not a zip file"),
        (lambda path: torch.save([1, 2], path), "a dict of name, images and texts"),
        (lambda path: torch.save({"images": np.zeros((2, 2)), "texts": ""}, path), "holds more than texts"),
        (lambda path: torch.save({"images": torch.zeros(2, 2), "texts": ""}, path), "codes are float32"),
        (lambda path: torch.save({"images": np.zeros((1, 2, 2), int), "texts": ""}, path), r"must be \[H, W\]"),
        (lambda path: torch.save({"images": np.full((2, 2), 64), "texts": ""}, path), "the vocabulary has 0 to 63"),
        (lambda path: torch.save({"images": np.full((2, 2), 6), "texts": 3}, path), "texts is int"),
    ],
)
def test_a_bad_file_of_emu3s_is_named_and_nothing_is_run_or_made(tmp_path, write, message):
    emu3_folder(tmp_path)
    write(tmp_path / "feature/0003.pth")
    with pytest.raises(DataError, match=rf"(?s)(entry 4 \(0003\.pth\)|train\.json#4).*{message}"):
        imported(tmp_path / "list/train.json", tmp_path / "out")
    assert not trace_of(tmp_path / "feature/0003.pth").exists()
    assert not list(tmp_path.glob("out*"))


def test_the_hostile_file_would_leave_its_trace(tmp_path):
    """The file names a call and its argument, and that call makes the trace: else its absence above proved nothing."""
    path = tmp_path / "x.pth"
    bad_pickle(path)
    with zipfile.ZipFile(path) as archive:
        [entry] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        said = [(code.name, argument) for code, argument, _ in pickletools.genops(archive.read(entry))]
    run, (place,) = Hostile(trace_of(path)).__reduce__()
    written = {argument for _, argument in said}
    assert {f"{run.__module__} {run.__name__}", place} <= written and "REDUCE" in {name for name, _ in said}
    run(place)
    assert trace_of(path).is_dir()


@pytest.mark.parametrize("name", ["../secret.pth", "/etc/passwd"])
def test_a_list_cannot_point_out_of_its_folder(tmp_path, name):
    emu3_folder(tmp_path)
    listed = {"prefix": str(tmp_path / "feature"), "path_list": [name]}
    (tmp_path / "list/train.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match="lies outside of"):
        imported(tmp_path / "list/train.json", tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ("[1]", "a JSON object, not list"),
        ("[" * 100_000, "recursion"),
        ('{"codes": [[1]]}', '"text" is missing'),
        ('{"text": 3}', "text is int; it must be text"),
        ('{"text": "", "code": [[1]]}', "unknown key 'code'; did you mean 'codes'"),
        ('{"text": "", "codes": [[1], [1, 2]]}', "inhomogeneous"),
        ('{"text": "", "codes": [[0.5]]}', "codes are float64"),
        ('{"text": "", "codes": [[64]]}', "the vocabulary has 0 to 63"),
        ('{"text": "", "codes": [[99999999999999999999]]}', "codes are object"),
        ('{"text": "", "codes": []}', "codes are float64"),
        ('{"text": "", "codes": [[[1]]]}', "fps is missing"),
        ('{"text": "", "codes": [[[1]]], "fps": 0}', "must be above 0"),
        ('{"text": "", "codes": [[[1]]], "fps": NaN}', "must be above 0"),
        ('{"text": "", "codes": [[[1]]], "fps": "8"}', "it must be a number"),
        ('{"text": "", "codes": [[1]], "fps": 8}', "an image has no fps"),
        ('{"text": "", "fps": 8}', "a text has neither"),
        ('{"text": "", "codes": [[1]], "caption_after": 1}', "must be true or false"),
        ('{"text": "", "licence": 1}', "licence is int"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "fine"}}\n\n{line}\n')
    with pytest.raises(DataError, match=rf"(rows\.jsonl, line 3|row rows\.jsonl#3): .*{message}"):
        imported(path, tmp_path / "out")


def test_a_line_too_long_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folders, "LONGEST", 50)
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "x"}, {"text": "x" * 100}])
    with pytest.raises(DataError, match="line 2: longer than"):
        imported(path, tmp_path / "out")


def test_units_are_bounded_and_the_sum_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(code_files, "UNIT_TOKENS", 60)
    said = []
    folder = imported(write_lines(tmp_path / "rows.jsonl", LINES * 5), tmp_path / "out", say=said.append)
    assert len(list((tmp_path / "out/items").glob("unit-*.parquet"))) == len(said) > 5
    assert said[-1].startswith("20 documents, ")
    assert verify(folder).problems == []


def test_it_trains_beside_other_folders_of_the_same_tokenizer(tmp_path):
    for name in ("one", "two"):
        imported(write_lines(tmp_path / f"{name}.jsonl", LINES), tmp_path / name)
    config = DataConfig(context=64, batch_rows=1, heldout=0.0, shares=[0.5, 0.5])
    corpus = Corpus([tmp_path / "one", tmp_path / "two"], "default", config)
    loader = Loader(corpus, np.arange(len(corpus)), config, seed=0)
    assert len(loader.micro_batches(0, 0)) == 1
    items = [ShardIndex(tmp_path / name, selection="default").strings("item_id") for name in ("one", "two")]
    assert len(set(np.concatenate(items))) == 8


def test_nothing_to_import_and_a_folder_that_is_there_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing to import"):
        imported(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="holds no rows"):
        imported(write_lines(tmp_path / "empty.jsonl", []), tmp_path / "out")
    path = write_lines(tmp_path / "rows.jsonl", LINES)
    imported(path, tmp_path / "out")
    with pytest.raises(ConfigError, match="is there already"):
        imported(path, tmp_path / "out")
    assert not list(tmp_path.glob("*.importing"))


def run(*arguments):
    return CliRunner().invoke(app, ["tokens", "import", *map(str, arguments)])


def test_the_command(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", LINES)
    known = run(path, "--out", tmp_path / "known", "--tokenizer", "reelmill-tok-xs", "--text", "bytes")
    assert known.exit_code == 0, known.output
    corpus = Corpus([tmp_path / "known"], "default", DataConfig(heldout=0.0))
    assert corpus.vocab == Vocabulary("bytes", 4096)
    stated = run(path, "--out", tmp_path / "stated", "--codes", 64, "--fingerprint", FINGERPRINT, "--text", "bytes")
    assert stated.exit_code == 0, stated.output
    assert RunFolder(tmp_path / "stated").require()
    for options in ([], ["--codes", 64], ["--tokenizer", "reelmill-tok-xs", "--codes", 64]):
        refused = run(path, "--out", tmp_path / "no", *options)
        assert re.search("say whose codes these are", str(refused.exception))
    refused = run(path, "--out", tmp_path / "no", "--codes", 64, "--fingerprint", "xyz")
    assert "hex digits" in str(refused.exception)


def test_a_second_import_does_not_take_the_first_ones_folder_away(tmp_path):
    source = write_lines(tmp_path / "rows.jsonl", LINES)
    with RunFolder(tmp_path / "out.importing").lock() as first:
        first.commit_text(first.recipe_path, "of the first\n")
        with pytest.raises(MachineError, match="another run is writing to"):
            imported(source, tmp_path / "out")
        assert first.recipe_path.read_text() == "of the first\n"
    imported(source, tmp_path / "out")
    assert verify(RunFolder(tmp_path / "out")).problems == []
    assert (tmp_path / "out" / "README.md").is_file() and not (tmp_path / "out.importing").exists()
