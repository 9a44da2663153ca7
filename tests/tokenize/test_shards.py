"""Token shards: written, read through the index, queried by DuckDB, and verified."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_groups import count_decoded

from reelmill.errors import DataError
from reelmill.tokenize import documents
from reelmill.tokenize.shards import (
    KINDS,
    TOKENS_SCHEMA,
    RowGroups,
    ShardIndex,
    document_row,
    read_footer,
    verify_shard,
    write_shard,
)
from reelmill.tokenize.vocabulary import Vocabulary

VOCAB = Vocabulary("bytes", 4096)
FINGERPRINT = "0123456789abcdef" * 4


def make_rows(count, *, seed=0, prefix="s", fingerprint=FINGERPRINT, vocab=VOCAB):
    """Videos, images and texts in turn."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        facts = {
            "sample_id": f"{prefix}{n}",
            "item_id": f"item{n // 2}",
            "fingerprint": fingerprint,
            "licence": "CC-BY-4.0" if n % 2 else None,
            "uri": f"clips/{n}.mp4",
        }
        if n % 3 == 0:
            codes = rng.integers(0, vocab.codes, (3, 4, 6))
            tokens = documents.video_document(vocab, codes, f"clip {n}", 8, 1.5, caption_after=n % 2 == 1)
            rows.append(document_row(vocab, tokens, part=1, start_s=2.0, caption_source="facts", **facts))
        elif n % 3 == 1:
            tokens = documents.image_document(vocab, rng.integers(0, vocab.codes, (5, 7)), f"photograph {n}")
            rows.append(document_row(vocab, tokens, caption_source="sidecar", **facts))
        else:
            rows.append(document_row(vocab, documents.text_document(vocab, "words " * n), **facts))
    return rows


def make_run(out, *, files=2, count=9, **options):
    """A run folder with token shards; returns all rows in index order."""
    rows = []
    for unit in range(files):
        path = out / "tokens" / FINGERPRINT[:12] / f"unit-{unit:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.append(make_rows(count, seed=unit, prefix=f"u{unit}-"))
        write_shard(path, rows[-1], VOCAB, FINGERPRINT, **options)
    return [row for unit in rows for row in unit]


def test_rows_say_what_their_tokens_say():
    video, image, text = make_rows(3)
    assert (video["kind"], video["grid_t"], video["grid_h"], video["grid_w"], video["fps"]) == ("video", 3, 4, 6, 8.0)
    assert (video["n_vision"], video["n_tokens"]) == (72, len(video["tokens"]))
    assert (image["kind"], image["grid_t"], image["n_vision"], image["fps"]) == ("image", 1, 35, None)
    assert (text["kind"], text["grid_t"], text["n_vision"]) == ("text", 0, 0)
    assert video["doc_id"] == documents.doc_id("s0", 1, FINGERPRINT)


def test_the_format_is_the_stated_one(tmp_path):
    path = tmp_path / "unit-000000.parquet"
    write_shard(path, make_rows(30), VOCAB, FINGERPRINT, row_group_tokens=300)
    metadata = pq.read_metadata(path)
    schema = metadata.schema.to_arrow_schema()
    assert schema.equals(TOKENS_SCHEMA)
    assert not schema.field("tokens").nullable
    assert not schema.field("tokens").type.value_field.nullable
    column = metadata.row_group(0).column(metadata.schema.names.index("element"))
    assert column.path_in_schema == "tokens.list.element"
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert column.compression == "LZ4"
    assert column.statistics is None
    assert {key: value for key, value in metadata.metadata.items() if key.startswith(b"reelmill")} == {
        b"reelmill.fingerprint": FINGERPRINT.encode(),
        b"reelmill.tokenizer": FINGERPRINT.encode(),
        b"reelmill.vocabulary": b'{"text": "bytes", "codes": 4096}',
        b"reelmill.vision_start": b"467",
        b"reelmill.vision_stop": b"4563",
        b"reelmill.layout_version": b"1",
    }
    footer = read_footer(path)[1]
    assert (footer.fingerprint, footer.vocab) == (FINGERPRINT, VOCAB)


@pytest.mark.parametrize("limit", [1, 150, 300, 10**9])
def test_row_groups_are_cut_by_tokens(tmp_path, limit):
    path = tmp_path / "unit-000000.parquet"
    rows = make_rows(20)
    write_shard(path, rows, VOCAB, FINGERPRINT, row_group_tokens=limit)
    metadata = pq.read_metadata(path)
    sizes, start = [], 0
    for group in range(metadata.num_row_groups):
        held = [row["n_tokens"] for row in rows[start : start + metadata.row_group(group).num_rows]]
        assert sum(held) <= limit or len(held) == 1
        start += len(held)
        sizes.append(len(held))
    assert start == 20
    assert len(sizes) == 1 if limit == 10**9 else len(sizes) > 1


def test_duckdb_reads_and_counts(tmp_path):
    rows = make_run(tmp_path)
    query = (
        "SELECT kind, count(*), sum(n_tokens), sum(n_vision), sum(len(tokens)), "
        "sum(len(list_filter(tokens, lambda x: x >= 467 AND x < 4563))) "
        f"FROM '{tmp_path}/tokens/*/unit-*.parquet' GROUP BY kind ORDER BY kind"
    )
    found = {kind: tuple(map(int, sums)) for kind, *sums in duckdb.sql(query).fetchall()}
    for kind in ("image", "text", "video"):
        mine = [row for row in rows if row["kind"] == kind]
        n_tokens, n_vision = sum(row["n_tokens"] for row in mine), sum(row["n_vision"] for row in mine)
        assert found[kind] == (len(mine), n_tokens, n_vision, n_tokens, n_vision)


def test_the_index_finds_every_document(tmp_path):
    rows = make_run(tmp_path, row_group_tokens=200)
    index = ShardIndex(tmp_path)
    assert len(index) == len(rows) == 18
    assert index.footer.vocab == VOCAB
    assert index.n_tokens.tolist() == [row["n_tokens"] for row in rows]
    assert index.n_vision.tolist() == [row["n_vision"] for row in rows]
    assert [KINDS[kind] for kind in index.kind] == [row["kind"] for row in rows]
    for name in ("doc_id", "item_id", "sample_id", "licence"):
        assert index.strings(name).tolist() == [row[name] for row in rows]
    assert index.columns["grid_w"].to_pylist() == [row["grid_w"] for row in rows]
    assert index.file.tolist() == [0] * 9 + [1] * 9
    assert index.row_group.max() > 0


@pytest.mark.parametrize("cached", [1, 10_000])
def test_reading_in_any_order(tmp_path, cached):
    rows = make_run(tmp_path, row_group_tokens=200)
    index = ShardIndex(tmp_path, row_groups=RowGroups(cached))
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(18), 2))
    for found, wanted in zip(index.read(order), order, strict=True):
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, rows[wanted]["tokens"])
    assert index.read([]) == []


def test_a_row_group_is_decoded_once_a_call(tmp_path, monkeypatch):
    make_run(tmp_path, row_group_tokens=200)
    index = ShardIndex(tmp_path, row_groups=RowGroups(1))
    decoded = count_decoded(monkeypatch)
    index.read(np.random.default_rng(2).permutation(18))
    assert len(decoded) == len(set(zip(index.file.tolist(), index.row_group.tolist(), strict=True)))


def test_the_index_travels_to_worker_processes(tmp_path):
    rows = make_run(tmp_path)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        (read,) = pool.submit(ShardIndex(tmp_path).read, [7]).result()
    np.testing.assert_array_equal(read, rows[7]["tokens"])


def test_documents_read_do_not_change_the_next_read(tmp_path):
    rows = make_run(tmp_path)
    index = ShardIndex(tmp_path)
    index.read([3])[0][:] = 0
    np.testing.assert_array_equal(index.read([3])[0], rows[3]["tokens"])


def test_a_selection_keeps_the_kept(tmp_path):
    rows = make_run(tmp_path)
    status = {row["sample_id"]: ("kept", "rejected", "undecided")[n % 3] for n, row in enumerate(rows)}
    (tmp_path / "verdicts").mkdir()
    pq.write_table(
        pa.table({"sample_id": list(status), "status": list(status.values())}), tmp_path / "verdicts" / "best.parquet"
    )
    index = ShardIndex(tmp_path, selection="best")
    kept = [row for row in rows if status[row["sample_id"]] == "kept"]
    assert index.strings("sample_id").tolist() == [row["sample_id"] for row in kept]
    for tokens, row in zip(index.read(np.arange(len(index))), kept, strict=True):
        np.testing.assert_array_equal(tokens, row["tokens"])
    for name in ("worst", "../verdicts/best", ""):
        with pytest.raises(DataError, match="there are: best"):
            ShardIndex(tmp_path, selection=name)


def test_shards_of_two_tokenizers_or_vocabularies_are_not_mixed(tmp_path):
    make_run(tmp_path)
    other = "f" * 64
    path = tmp_path / "tokens" / other[:12] / "unit-000000.parquet"
    path.parent.mkdir()
    larger = Vocabulary("bytes", 8192)
    write_shard(path, make_rows(3, fingerprint=other, vocab=larger), larger, other)
    with pytest.raises(DataError, match="Name one fingerprint"):
        ShardIndex(tmp_path)
    assert len(ShardIndex(tmp_path, fingerprint=other[:12])) == 3
    assert len(ShardIndex(tmp_path, fingerprint=FINGERPRINT)) == 18
    with pytest.raises(DataError, match="no token shards"):
        ShardIndex(tmp_path, fingerprint="abc")
    with pytest.raises(DataError, match="no token shards"):
        ShardIndex(tmp_path / "elsewhere")


def test_an_empty_shard_is_valid(tmp_path):
    path = tmp_path / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet"
    path.parent.mkdir(parents=True)
    write_shard(path, [], VOCAB, FINGERPRINT)
    assert verify_shard(path, VOCAB) == []
    assert len(ShardIndex(tmp_path)) == 0


def test_a_good_shard_verifies(tmp_path):
    make_run(tmp_path, row_group_tokens=200)
    for path in (tmp_path / "tokens").glob("*/*.parquet"):
        assert verify_shard(path, VOCAB) == []
        assert verify_shard(path) == []


def test_a_table_is_as_good_as_rows(tmp_path):
    rows = make_rows(6)
    nullable = pa.Table.from_pylist([{**row, "tokens": row["tokens"].tolist()} for row in rows])
    write_shard(tmp_path / "a.parquet", rows, VOCAB, FINGERPRINT)
    write_shard(tmp_path / "b.parquet", nullable, VOCAB, FINGERPRINT)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_tokens": 5}, "n_tokens"),
        ({"n_vision": 0}, "n_vision"),
        ({"kind": "image"}, "kind"),
        ({"grid_h": 6, "grid_w": 4}, "grid_h"),
        ({"fps": 24.0}, "fps"),
        ({"caption_after": True}, "caption_after"),
        ({"doc_id": "0" * 32}, "doc_id"),
        ({"part": 2}, "doc_id"),
        ({"fingerprint": "e" * 64}, "fingerprint"),
        ({"tokens": np.array([VOCAB.bos, 3], dtype=np.int32)}, "found the end at position 2"),
        ({"sample_id": None}, "sample_id"),
        ({"n_tokens": "many"}, "do not fit"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_row_that_contradicts_its_tokens_is_not_written(tmp_path, change, message):
    rows = make_rows(4)
    rows[0] |= change
    with pytest.raises(DataError, match=message):
        write_shard(tmp_path / "unit.parquet", rows, VOCAB, FINGERPRINT)
    assert not list(tmp_path.iterdir())


def tampered(path, target, change, metadata=None):
    """Write a shard as a careless tool would: the same file with a changed table, nothing checked."""
    table = pq.read_table(path)
    for name, value in change.items():
        position = table.schema.get_field_index(name)
        values = [value, *table[name].to_pylist()[1:]]
        table = table.set_column(
            position, table.schema.field(position), pa.array(values, table.schema.field(position).type)
        )
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, **(metadata or {})}), target)


@pytest.mark.parametrize(
    "change", [{"n_tokens": 5}, {"kind": "image"}, {"grid_t": 4}, {"n_vision": 1}, {"tokens": [1, 2]}]
)
def test_verify_finds_columns_that_contradict_the_tokens(tmp_path, change):
    write_shard(tmp_path / "a.parquet", make_rows(4), VOCAB, FINGERPRINT)
    tampered(tmp_path / "a.parquet", tmp_path / "b.parquet", {})
    assert verify_shard(tmp_path / "b.parquet") == []
    tampered(tmp_path / "a.parquet", tmp_path / "c.parquet", change)
    assert verify_shard(tmp_path / "c.parquet")


def test_verify_finds_footers_that_are_wrong(tmp_path):
    good, bad = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_shard(good, make_rows(4), VOCAB, FINGERPRINT)
    for metadata in (
        {b"reelmill.vision_start": b"0"},
        {b"reelmill.vocabulary": b"{}"},
        {b"reelmill.vocabulary": b"\xff"},
        {b"reelmill.layout_version": b"2"},
        {b"reelmill.layout_version": b""},
        {b"reelmill.fingerprint": b"f" * 64},
    ):
        tampered(good, bad, {}, metadata)
        assert verify_shard(bad), metadata
    tampered(good, bad, {}, {b"reelmill.layout_version": b"2"})
    with pytest.raises(DataError, match="layout version 2, this reelmill reads 1"):
        read_footer(bad)
    assert "not" in verify_shard(good, Vocabulary("bytes", 512))[0]


def test_verify_finds_doubled_documents_and_foreign_files(tmp_path):
    rows = make_rows(3)
    write_shard(tmp_path / "a.parquet", [*rows, rows[1]], VOCAB, FINGERPRINT)
    assert "stands 2 times" in verify_shard(tmp_path / "a.parquet")[0]
    (tmp_path / "text.parquet").write_text("not a Parquet file")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    for name in ("text", "other", "missing"):
        assert verify_shard(tmp_path / f"{name}.parquet")


def test_a_flipped_bit_is_found(tmp_path):
    """Any bit of any column's pages; page headers carry no checksum, but a flip there must not change what is read."""
    path = tmp_path / "tokens" / FINGERPRINT[:12] / "unit-000000.parquet"
    path.parent.mkdir(parents=True)
    write_shard(path, make_rows(30), VOCAB, FINGERPRINT, row_group_tokens=1000)
    original, table = path.read_bytes(), pq.read_table(path)
    metadata = pq.read_metadata(path)
    tokens = metadata.row_group(1).column(metadata.schema.names.index("element"))
    rng = np.random.default_rng(3)
    inside = rng.integers(tokens.data_page_offset + 100, tokens.data_page_offset + tokens.total_compressed_size, 40)
    anywhere = rng.integers(4, len(original) - metadata.serialized_size - 8, 80)
    for position in [*inside, *anywhere]:
        damaged = bytearray(original)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        if not verify_shard(path):
            assert position in anywhere
            assert pq.read_table(path).equals(table)
    path.write_bytes(original[: inside[0]] + bytes([original[inside[0]] ^ 4]) + original[inside[0] + 1 :])
    index = ShardIndex(tmp_path)
    with pytest.raises(DataError, match="reelmill verify"):
        index.read(np.arange(len(index)))


def test_a_truncated_or_vanished_shard_is_an_error(tmp_path):
    make_run(tmp_path, files=1)
    path = next((tmp_path / "tokens").glob("*/*.parquet"))
    index = ShardIndex(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert verify_shard(path)
    with pytest.raises(DataError, match="cannot be read"):
        index.read([0])
    with pytest.raises(DataError, match="cannot be read"):
        ShardIndex(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        index.read([0])


def test_row_groups_stay_decoded_up_to_a_number_of_ids(tmp_path, monkeypatch):
    rows = make_run(tmp_path, row_group_tokens=200)
    decoded = count_decoded(monkeypatch)
    blocks = len(ShardIndex(tmp_path).row_group_tokens)
    assert blocks > 3
    for most, expected in ((sum(row["n_tokens"] for row in rows), blocks), (1, 2 * blocks)):
        decoded.clear()
        index = ShardIndex(tmp_path, row_groups=RowGroups(most))
        for number in [*range(len(rows)), *range(len(rows))]:
            np.testing.assert_array_equal(index.view(number), rows[number]["tokens"])
        assert len(decoded) == expected


def test_a_view_cannot_be_written_to(tmp_path):
    make_run(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        ShardIndex(tmp_path).view(0)[0] = 1


def test_blocks_number_the_row_groups_of_all_shards(tmp_path):
    make_run(tmp_path, row_group_tokens=200)
    index = ShardIndex(tmp_path)
    places = list(zip(index.file.tolist(), index.row_group.tolist(), strict=True))
    assert [sorted(set(places)).index(place) for place in places] == index.row_group_id.tolist()
    assert np.array_equal(np.bincount(index.row_group_id, weights=index.n_tokens), index.row_group_tokens)
