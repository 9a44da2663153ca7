import numpy as np
import pyarrow.parquet as pq
import pytest

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import PairIndex, pair_row, verify_pairs, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary

VOCAB = Vocabulary("bytes", 64)
FOOTER = Footer("ab" * 32, VOCAB, "cd" * 32)


def drawn(prompt, codes):
    return documents.image_document(VOCAB, np.array(codes), prompt)


def rows(count=5):
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        prompt = f"a picture of {number}"
        n_prompt = len(prompt) + len("BI3*4") + 1
        chosen, rejected = (drawn(prompt, rng.integers(0, 64, (3, 4))) for _ in range(2))
        made.append(pair_row(prompt, n_prompt, chosen, rejected, margin=float(number)))
    return made


def test_pairs_come_back_as_they_were_written_over_files_and_row_groups(tmp_path):
    written = rows(7)
    write_pairs(tmp_path / "pairs/a/one.parquet", written[:5], FOOTER, root=tmp_path, row_group_tokens=80)
    write_pairs(tmp_path / "pairs/a/two.parquet", written[5:], FOOTER, root=tmp_path)
    assert pq.read_metadata(tmp_path / "pairs/a/one.parquet").num_row_groups > 1
    assert (tmp_path / "checksums/pairs/a/one.parquet.sha256").is_file()
    index = PairIndex(tmp_path / "pairs/a")
    assert len(index) == 7
    assert index.footer == FOOTER
    for number in (6, 0, 4, 3, 5):
        pair, row = index.read(number), written[number]
        assert (pair.pair_id, pair.prompt, pair.n_prompt) == (row["pair_id"], row["prompt"], row["n_prompt"])
        assert pair.chosen.tolist() == row["chosen"].tolist()
        assert pair.rejected.tolist() == row["rejected"].tolist()
    assert pq.read_table(tmp_path / "pairs/a/one.parquet")["margin"].to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert verify_pairs(tmp_path / "pairs/a/one.parquet", VOCAB) == []


def remade(row, **changes):
    fields = {name: row[name] for name in ("prompt", "n_prompt", "chosen", "rejected")}
    return pair_row(**{**fields, **changes}, margin=0.0)


def test_what_is_no_pair_is_refused_by_the_name_of_its_row(tmp_path):
    good = rows(3)
    bad = {
        r"row 1 .*: the prompts differ at token 14 of 20: text \d+ in chosen": remade(
            good[1], rejected=good[2]["rejected"]
        ),
        "row 1 .*: chosen is no document: ill-formed": remade(good[1], chosen=good[1]["chosen"][:-3]),
        "row 1 .*: rejected has nothing after the prompt: 4 of its 5": remade(
            good[1],
            n_prompt=4,
            chosen=documents.text_document(VOCAB, "abcdef"),
            rejected=documents.text_document(VOCAB, "abc"),
        ),
        "row 1 .*: chosen and rejected are the same": remade(good[1], rejected=good[1]["chosen"]),
        "row 1 .*: column n_chosen says 3": {**good[1], "n_chosen": 3},
        r"row 1 \(pair xyz, prompt 'a picture of 1'\): column pair_id": {**good[1], "pair_id": "xyz"},
    }
    for words, row in bad.items():
        with pytest.raises(DataError, match=words):
            write_pairs(tmp_path / "a.parquet", [good[0], row, good[2]], FOOTER)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_lack_a_column_or_contradict_one_another_are_refused(tmp_path):
    one, other = rows(2)
    with pytest.raises(DataError, match=r"lacks \['n_prompt'\]"):
        write_pairs(tmp_path / "a.parquet", [{k: v for k, v in one.items() if k != "n_prompt"}], FOOTER)
    with pytest.raises(DataError, match="different columns"):
        write_pairs(tmp_path / "a.parquet", [one, {k: v for k, v in other.items() if k != "margin"}], FOOTER)


def test_a_damaged_file_and_a_pair_that_stands_twice_are_found(tmp_path):
    path = tmp_path / "a.parquet"
    write_pairs(path, [*rows(2), rows(1)[0]], FOOTER)
    assert [problem.split(": ")[1] for problem in verify_pairs(path)] == [
        f"pair {rows(1)[0]['pair_id']} stands 2 times"
    ]
    columns = pq.read_metadata(path).row_group(0)
    content = bytearray(path.read_bytes())
    content[columns.column(3).data_page_offset + 60] ^= 255
    path.write_bytes(content)
    assert "damaged" in verify_pairs(path)[0]
    with pytest.raises(DataError, match=r"row group 0 of .*a\.parquet is damaged"):
        PairIndex(tmp_path).read(0)


def test_folders_without_pairs_or_with_several_tokenizers_are_refused(tmp_path):
    with pytest.raises(DataError, match="reelmill prefer build"):
        PairIndex(tmp_path)
    write_pairs(tmp_path / "a.parquet", rows(2), FOOTER)
    write_pairs(tmp_path / "b.parquet", rows(2), Footer("ab" * 32, VOCAB, "ef" * 32))
    with pytest.raises(DataError, match="several vocabularies or vision tokenizers"):
        PairIndex(tmp_path)
    (tmp_path / "b.parquet").unlink()
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns("n_prompt"), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet is no file of pairs: its columns \['n_prompt'\]"):
        PairIndex(tmp_path)
