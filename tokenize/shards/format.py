"""The contents of a token shard: its columns, its footer, and the checks of a row against its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.tokenize.documents import LAYOUT_VERSION, Document, doc_id, parse
from reelmill.tokenize.vocabulary import Vocabulary

# What reading a damaged Parquet file may raise; pyarrow decodes names in it as UTF-8, hence ValueError.
UNREADABLE = (OSError, ValueError, pa.ArrowException)

KINDS = ("video", "image", "text", "interleaved")

BLOCK = pa.struct(
    [
        ("kind", pa.string()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("item_id", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
    ]
)

TOKENS_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("fps", pa.float64()),
        pa.field("tokens", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("n_vision", pa.int32(), nullable=False),
        pa.field("grid_t", pa.int32(), nullable=False),
        pa.field("grid_h", pa.int32(), nullable=False),
        pa.field("grid_w", pa.int32(), nullable=False),
        pa.field("licence", pa.string()),
        pa.field("source", pa.string()),
        pa.field("url", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("caption_source", pa.string()),
        pa.field("caption_after", pa.bool_(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("answers", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.field("blocks", pa.list_(pa.field("element", BLOCK))),
    ]
)
"""`blocks`: of an interleaved document, where each text and image stands in its tokens and in its item, in order.
`answers`: of a conversation, start and stop of each answer in its tokens, end to end; NULL where all tokens count in
the loss. The shards of earlier versions lack these two columns."""
LATER = ("answers", "blocks")


@dataclass(frozen=True)
class Footer:
    """The metadata of a shard: how its documents were made, the id space, the vision tokenizer, the layout.

    `fingerprint` covers everything that its tokens depend on (resolution and rate too); `tokenizer` is the vision
    tokenizer's own: shards with one vocabulary and one tokenizer have ids that mean the same.
    """

    fingerprint: str
    vocab: Vocabulary
    tokenizer: str
    layout_version: int = LAYOUT_VERSION

    def to_metadata(self) -> dict[str, str]:
        """Parquet key-values."""
        return {
            "reelmill.fingerprint": self.fingerprint,
            "reelmill.tokenizer": self.tokenizer,
            "reelmill.vocabulary": self.vocab.to_json(),
            "reelmill.vision_start": str(self.vocab.vision_start),
            "reelmill.vision_stop": str(self.vocab.vision_stop),
            "reelmill.layout_version": str(self.layout_version),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, path: Path) -> Footer:
        """Read the key-values of `path`; DataError where they are missing or contradict one another."""
        entries = (metadata or {}).items()
        texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in entries}
        found = {key: value for key, value in texts.items() if key.startswith("reelmill.")}
        version = found.get("reelmill.layout_version", "")
        if "reelmill.vocabulary" not in found or not version.isdecimal():
            raise DataError(f"{path} is no token shard: its footer lacks reelmill's keys (found {sorted(found)})")
        vocab = Vocabulary.from_json(found["reelmill.vocabulary"])
        whose = (found.get("reelmill.fingerprint", ""), vocab, found.get("reelmill.tokenizer", ""))
        footer = cls(*whose, int(version))
        if footer.to_metadata() != found:
            raise DataError(f"{path}: the footer contradicts itself: {found}")
        return footer


def document_row(
    vocab: Vocabulary,
    tokens: npt.NDArray[np.int32],
    *,
    sample_id: str,
    item_id: str,
    fingerprint: str,
    part: int = 0,
    start_s: float | None = None,
    licence: str | None = None,
    source: str | None = None,
    url: str | None = None,
    uri: str | None = None,
    caption_source: str | None = None,
    answers: Sequence[tuple[int, int]] | None = None,
    blocks: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A row of TOKENS_SCHEMA; what the document itself says (kind, grid, counts, rate) is read from its tokens.

    `answers`: (start, stop) of each answer of a conversation (`documents.chat_document`), of which training learns them
    alone. `blocks`: `{"kind", "start", "stop", "item_id", "start_s", "end_s"}` of each text and image. Raises
    DocumentError where the tokens are no document.
    """
    return {
        "doc_id": doc_id(sample_id, part, fingerprint),
        "sample_id": sample_id,
        "item_id": item_id,
        "part": part,
        "start_s": start_s,
        "tokens": np.asarray(tokens, dtype=np.int32),
        "licence": licence,
        "source": source,
        "url": url,
        "uri": uri,
        "caption_source": caption_source,
        "fingerprint": fingerprint,
        "answers": None if answers is None else [edge for span in answers for edge in span],
        "blocks": None if blocks is None else [dict(block) for block in blocks],
        **_facts(parse(vocab, tokens)),
    }


def read_footer(path: Path) -> tuple[pq.FileMetaData, Footer]:
    """A shard's Parquet metadata and what its footer says; DataError where it is none, or of another layout version."""
    try:
        metadata = pq.read_metadata(path)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}. Run `reelmill verify` on its folder.") from error
    footer = Footer.from_metadata(metadata.metadata, path)
    if footer.layout_version != LAYOUT_VERSION:
        raise DataError(
            f"{path} has documents of layout version {footer.layout_version}, this reelmill reads {LAYOUT_VERSION}: "
            "tokenize again"
        )
    return metadata, footer


def token_lists(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The numbers of all rows of a column of lists, int32, flat, and int64 [rows + 1] offsets into them."""
    lists = column.combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.values.to_numpy(), offsets


def with_later_columns(table: pa.Table) -> pa.Table:
    """The table with the columns of TOKENS_SCHEMA that shards of earlier versions lack: NULL, in their places."""
    lacking = [TOKENS_SCHEMA.field(name) for name in LATER if name not in table.column_names]
    if not lacking:
        return table
    for field in lacking:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    known = [name for name in TOKENS_SCHEMA.names if name in table.column_names]
    return table.select([*known, *(name for name in table.column_names if name not in known)])


def _facts(document: Document) -> dict[str, Any]:
    """The columns that follow from the tokens."""
    single = document.kind != "interleaved"
    t, h, w = document.grid if single else (0, 0, 0)
    return {
        "kind": document.kind,
        "fps": document.fps if single else None,
        "n_tokens": len(document.tokens),
        "n_vision": document.n_vision,
        "grid_t": t,
        "grid_h": h,
        "grid_w": w,
        "caption_after": document.caption_after if single else False,
    }


def row_problems(table: pa.Table, footer: Footer) -> Iterator[str]:
    """The problems of the rows of a table of TOKENS_SCHEMA, one sentence each."""
    flat, offsets = token_lists(table["tokens"])
    for index, row in enumerate(with_later_columns(table).drop_columns("tokens").to_pylist()):
        name = f"document {row['doc_id']}"
        try:
            facts = _facts(parse(footer.vocab, flat[offsets[index] : offsets[index + 1]]))
        except DataError as error:
            yield f"{name}: {error}"
            continue
        facts["fingerprint"] = footer.fingerprint
        facts["doc_id"] = doc_id(row["sample_id"], row["part"], footer.fingerprint, footer.layout_version)
        for column, fact in facts.items():
            if row[column] != fact:
                yield f"{name}: column {column} says {row[column]!r}, its tokens and footer say {fact!r}"
        if row["answers"] is not None and not _are_spans(row["answers"], facts["n_tokens"]):
            yield f"{name}: answers {row['answers'][:8]} are no spans [start, stop, ...] in {facts['n_tokens']} tokens"
        if row["blocks"] and not _are_blocks(row["blocks"], facts["n_tokens"]):
            yield f"{name}: its blocks do not follow one another in its {facts['n_tokens']} tokens"


def _are_blocks(blocks: Sequence[Mapping[str, Any]], n_tokens: int) -> bool:
    """Whether they follow one another between BOS and EOS."""
    edges = [0, *(edge for block in blocks for edge in (block["start"], block["stop"])), n_tokens - 1]
    return None not in edges and all(before <= after for before, after in pairwise(edges)) and edges[1] >= 1


def _are_spans(edges: Sequence[int], n_tokens: int) -> bool:
    """Whether these are starts and stops of one span or more, none empty or touching, between BOS and EOS."""
    rising = all(before < after for before, after in pairwise(edges))
    return len(edges) >= 2 and len(edges) % 2 == 0 and rising and edges[0] >= 1 and edges[-1] <= n_tokens - 1
