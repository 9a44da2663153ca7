"""The recipe that `train auto` takes fits the documents' lengths, their vocabulary and the machine."""

import numpy as np
import pytest
from command_line import CommandLine

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.fitting import fitting

TOKENIZER = "a" * 64


def run_folder(out, vocab, *grids):
    """A run folder with a picture of each grid; three numbers make a video."""
    rows = []
    for number, grid in enumerate(grids):
        codes = np.zeros(grid, np.int64)
        make = documents.image_document if len(grid) == 2 else documents.clip_document
        ids = make(vocab, codes, "words", *([8.0] if len(grid) == 3 else []))
        rows.append(document_row(vocab, ids, sample_id=f"s{number}", item_id=f"i{number}", fingerprint="f" * 64))
    folder = out / "tokens" / ("f" * 12)
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", rows, vocab, "f" * 64, tokenizer=TOKENIZER)
    return out


BYTES = Vocabulary("bytes", 4096)


@pytest.mark.parametrize(
    ("vocab", "grids", "on_gpu", "words"),
    [
        (BYTES, [(12, 16)] * 3, False, ["tiny"]),
        (BYTES, [(8, 12, 16)] * 3, False, ["tiny"]),  # 1,633 tokens, cut into parts of two latent frames
        (BYTES, [(12, 16)] * 9 + [(32, 64)], False, ["tiny"]),
        (BYTES, [(32, 64)] * 3, False, ["tiny", "--set", "data.context=2560", "--set", "steps=520"]),
        (Vocabulary("bytes", 32_768), [(12, 16)] * 3, False, ["tiny", "--set", "steps=357"]),
        (BYTES, [(32, 64)] * 3, True, ["small"]),
        (BYTES, [(90, 90)] * 3, True, ["small", "--set", "data.context=8704"]),
    ],
)
def test_the_recipe_fits(tmp_path, vocab, grids, on_gpu, words):
    assert fitting([run_folder(tmp_path / "out", vocab, *grids)], on_gpu=on_gpu).words == words


def test_auto_says_what_it_takes_and_trains_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = run_folder(tmp_path / "out", BYTES, (24, 32), (24, 32))
    reelmill = CommandLine(monkeypatch, capsys)
    small = ("--set", "steps=1", "--set", "data.lessons=0", "--set", "data.heldout=0", "--set", "device=cpu")
    ended = reelmill("train", "auto", "--data", out, "--selection", "all", *small)
    assert ended.code == 0, ended.err
    assert "auto: tiny --set data.context=1024" in " ".join(ended.err.split())
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]
    nothing = reelmill("train", "auto")
    assert nothing.code == 2 and "there is nothing to train on: give --data OUT" in nothing.err


def test_without_documents_there_is_nothing_to_fit(tmp_path):
    (tmp_path / "tokens").mkdir()
    with pytest.raises(DataError):
        fitting([tmp_path])
