"""`reelmill train RECIPE --check-data`: bad rows are named before a run begins; sound ones are counted."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from reelmill.config import to_toml
from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.cli import app
from reelmill.tokenize import documents
from reelmill.tokenize.shards import Footer, document_row, write_shard
from reelmill.tokenize.shards.pairs import pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.check_data import check_data
from reelmill.train.run import train

VOCAB = Vocabulary("bytes", 64)
FINGERPRINT = "ab" * 32


def pair(number, prompt=None):
    rng = np.random.default_rng(number)
    prompt = prompt or f"picture {number}"
    chosen, rejected = (documents.image_document(VOCAB, rng.integers(0, 64, (3, 4)), prompt) for _ in range(2))
    return pair_row(prompt, len(prompt) + 6, chosen, rejected)


def replace_rows(path, table):
    """Rows that `write_pairs` or `write_shard` would refuse, with the footer of the file that was there."""
    pq.write_table(table.replace_schema_metadata(pq.read_metadata(path).metadata), path)


@pytest.fixture
def preferences(toy_config):
    return replace(toy_config, objective="preference", data=replace(toy_config.data, context=160))


def test_sound_documents_and_pairs_are_counted(run_folder, toy_config, preferences, tmp_path):
    messages = check_data(toy_config, [run_folder], None)
    assert messages.startswith("30 documents are sound, ")
    long = pair(9, "a long prompt " * 9)
    write_pairs(tmp_path / "pairs/a/a.parquet", [pair(0), pair(1), long], Footer(FINGERPRINT, VOCAB, FINGERPRINT))
    assert check_data(preferences, [tmp_path], None) == (
        "3 pairs are sound, 1 of them held out; 1 are longer than data.context and would be left out"
    )


def test_pairs_whose_prompts_differ_or_whose_answers_are_empty_are_named(preferences, tmp_path):
    path = tmp_path / "pairs/a/a.parquet"
    good = [pair(n) for n in range(3)]
    write_pairs(path, good, Footer(FINGERPRINT, VOCAB, FINGERPRINT))
    table = pq.read_table(path)
    rejected = pa.array([good[0]["rejected"], pair(5)["rejected"], good[2]["rejected"]], table["rejected"].type)
    empty = documents.text_document(VOCAB, "x" * 12)
    chosen = pa.array([good[0]["chosen"], good[1]["chosen"], empty], table["chosen"].type)
    n_prompt = pa.array([good[0]["n_prompt"], good[1]["n_prompt"], 13], pa.int32())
    for name, column in (("chosen", chosen), ("rejected", rejected), ("n_prompt", n_prompt)):
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    replace_rows(path, table)
    with pytest.raises(DataError) as caught:
        check_data(preferences, [tmp_path], None)
    words = str(caught.value)
    assert f"{path}: row 1 (pair {good[1]['pair_id']}, prompt 'picture 1'): the prompts differ at token 9" in words
    assert "row 2 " in words
    assert "prompt 'picture 2'): chosen has nothing after the prompt: 13 of its 14 tokens are the prompt's" in words
    assert "row 0 " not in words


def test_a_document_without_its_codes_or_with_another_fingerprint_is_named(run_folder, toy_config, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (shard,) = sorted((run_folder / "tokens").rglob("unit-000000.parquet"))
    copy = out / "tokens" / shard.parent.name / shard.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(shard.read_bytes())
    table = pq.read_table(copy)
    rows = table.to_pylist()
    at = rows[0]["tokens"].index(VOCAB.img)
    rows[0]["tokens"] = rows[0]["tokens"][: at + 1] + rows[0]["tokens"][at + 5 :]
    rows[3]["fingerprint"] = "cd" * 32
    replace_rows(copy, pa.Table.from_pylist(rows, table.schema))
    with pytest.raises(DataError) as caught:
        check_data(toy_config, [out], None)
    assert f"document {rows[0]['doc_id']}: ill-formed document: found EOL at position" in str(caught.value)
    assert f"document {rows[3]['doc_id']}: column fingerprint says 'cdcd" in str(caught.value)


def test_data_of_another_tokenizer_than_init_is_refused(run_folder, toy_config, preferences, tmp_path):
    train(replace(toy_config, steps=1), [run_folder], tmp_path / "base", log_fn=lambda _: None)
    write_pairs(tmp_path / "a.parquet", [pair(0), pair(1)], Footer(FINGERPRINT, VOCAB, "cd" * 32))
    with pytest.raises(ConfigError, match="its ids mean something else"):
        check_data(replace(preferences, init=str(tmp_path / "base")), [tmp_path], None)


def test_the_command_checks_and_trains_nothing(preferences, tmp_path):
    folder = tmp_path / "data"
    write_pairs(folder / "a.parquet", [pair(n) for n in range(4)], Footer(FINGERPRINT, VOCAB, FINGERPRINT))
    (tmp_path / "mine.toml").write_text(to_toml(preferences))
    command = [
        "train",
        str(tmp_path / "mine.toml"),
        "--data",
        str(folder),
        "--out",
        str(tmp_path / "run"),
        "--check-data",
    ]
    good = CliRunner().invoke(app, command)
    assert good.exit_code == 0, good.output
    assert "4 pairs are sound" in good.output
    table = pq.read_table(folder / "a.parquet")
    replace_rows(folder / "a.parquet", table.set_column(5, table.schema.field(5), pa.array([1] * 4, pa.int32())))
    bad = CliRunner().invoke(app, command)
    assert bad.exit_code != 0
    assert "row 0 (pair" in str(bad.exception)
    assert not (tmp_path / "run").exists()


def test_a_conversation_with_an_empty_answer_is_named(toy_config, tmp_path):
    def row(number, answer):
        question = "USER: what is it?. ASSISTANT:"
        start = 1 + len(question)
        return document_row(
            VOCAB, documents.text_document(VOCAB, question + answer), sample_id=f"s{number}", item_id=f"i{number}",
            fingerprint=FINGERPRINT, answers=[(start, start + len(answer))],
        )  # fmt: skip

    folder = tmp_path / "tokens/a"
    folder.mkdir(parents=True)
    rows = [row(0, " a cat"), row(1, " "), row(2, " a dog")]
    write_shard(folder / "unit-000000.parquet", rows, VOCAB, FINGERPRINT)
    with pytest.raises(DataError) as caught:
        check_data(toy_config, [tmp_path], None)
    assert f"conversation {rows[1]['doc_id']} in {tmp_path}: answer 1 is empty" in str(caught.value)
    assert rows[0]["doc_id"] not in str(caught.value)
