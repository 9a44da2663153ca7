"""`reelmill tokens import`: codes that others made become a run folder that training, `stats`, `sql` and `verify` read.

Each row is an item, its sample and its document. The folder is written beside its name and renamed when it is whole.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.config import to_toml
from reelmill.curation import ledger
from reelmill.errors import ConfigError, DataError
from reelmill.files import write_atomically
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.orchestration.views import write_database
from reelmill.pipelines.curate.recipes import DEFAULT
from reelmill.pipelines.curate.verdicts import write_verdicts
from reelmill.pipelines.imports.folder import Row, rows
from reelmill.pipelines.report.card import refresh as refresh_card
from reelmill.tokenize import documents
from reelmill.tokenize.shards import TOKENS_SCHEMA, document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary

UNIT_TOKENS = 4_000_000
UNIT_ROWS = 10_000
CAPTION_SOURCE = "sidecar"


def import_tokens(
    source: Path, out: Path, vocab: Vocabulary, tokenizer: str, name: str, say: Callable[[str], None] = print
) -> RunFolder:
    """Write the run folder `out` from the codes of `source`; returns it.

    `tokenizer` is the fingerprint of the vision tokenizer that made the codes, `name` what the recipe calls it. Memory
    holds one unit of `UNIT_TOKENS`. Raises ConfigError where `out` is there already or `source` is nothing to import,
    DataError for a bad row, naming file and row; then `out` is not made.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is there already; an import makes a folder of its own, so choose another.")
    fingerprint = hashlib.sha256(
        json.dumps(["import", tokenizer, vocab.to_json(), documents.LAYOUT_VERSION]).encode()
    ).hexdigest()
    recipe = Recipe(name="imported", tokens=TokensConfig(tokenizer=name, text=vocab.text))
    unfinished = out.with_name(f"{out.name}.importing")
    with RunFolder(unfinished).lock() as folder:
        try:
            _clear(folder)
            prepare_folder(folder, recipe)
            imported = tokens = 0
            for unit, batch in enumerate(_units(source, vocab, fingerprint)):
                write_unit(folder, unit, batch, vocab, tokenizer, fingerprint)
                imported, tokens = imported + len(batch), tokens + sum(row["n_tokens"] for _, row in batch)
                say(f"{imported:,} documents, {tokens:,} tokens")
            if not imported:
                raise DataError(f"{source} holds no rows; nothing was imported.")
            write_verdicts(folder, DEFAULT, recipe)
            write_database(folder.root, out.resolve())
            refresh_card(folder, out.name)
            unfinished.rename(out)  # over an empty folder too
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return RunFolder(out)


def _clear(folder: RunFolder) -> None:
    """Take away what an import that was killed has left; the lock and its epoch stay."""
    for path in folder.root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (".lock", ".epoch"):
            path.unlink()


def prepare_folder(folder: RunFolder, recipe: Recipe) -> None:
    """Write an imported run folder's recipe and the columns of its tables."""
    folder.commit_text(folder.recipe_path, to_toml(recipe))
    tables = {"items": ledger.ITEMS, "samples": ledger.samples_schema({}), "captions": ledger.CAPTIONS}
    tables |= {"failures": ledger.FAILURES, "timings": ledger.TIMINGS, "verdicts": ledger.VERDICTS}
    folder.prepare({**tables, "tokens": TOKENS_SCHEMA})


Documents = list[tuple[Row, dict[str, Any]]]


def _units(source: Path, vocab: Vocabulary, fingerprint: str) -> Iterator[Documents]:
    """Rows with their documents, as many together as a unit holds."""
    unit: Documents = []
    held = 0
    for row in rows(source):
        try:
            document = _document(row, vocab, fingerprint)
        except DataError as error:
            raise DataError(f"{source}, row {row.place}: {error}") from None
        unit.append((row, document))
        held += document["n_tokens"]
        if held >= UNIT_TOKENS or len(unit) >= UNIT_ROWS:
            yield unit
            unit, held = [], 0
    if unit:
        yield unit


def _document(row: Row, vocab: Vocabulary, fingerprint: str) -> dict[str, Any]:
    """The row's document as a row of a token shard; DataError where there is none."""
    item = ledger.item_id(row.place)
    sample = ledger.sample_id(item, 0.0, _seconds(row, vocab))
    place: dict[str, Any] = {"item_id": item, "sample_id": sample, "uri": row.place}
    facts: dict[str, Any] = {"source": row.source, "licence": row.licence, "url": row.url, "fingerprint": fingerprint}
    if row.codes is None:
        if row.fps is not None or row.caption_after:
            raise DataError("a text has neither fps nor caption_after; codes are missing")
        return document_row(vocab, documents.text_document(vocab, row.text), **place, **facts)
    if row.codes.ndim == 2:
        if row.fps is not None:
            raise DataError("an image has no fps; codes of a video are [T][H][W]")
        ids = documents.image_document(vocab, row.codes, row.text, caption_after=row.caption_after)
    else:
        if row.fps is None:
            raise DataError("codes are [T][H][W], a video's, and fps is missing")
        ids = documents.clip_document(vocab, row.codes, row.text, row.fps, caption_after=row.caption_after)
    return document_row(vocab, ids, start_s=0.0, caption_source=CAPTION_SOURCE, **place, **facts)


def _seconds(row: Row, vocab: Vocabulary) -> float:
    """Duration of a video, else 0. Raises DataError for a rate that no header can state."""
    if row.codes is None or row.codes.ndim != 3 or row.fps is None:
        return 0.0
    if not row.fps > 0:
        raise DataError(f"fps is {row.fps:g}; it must be above 0")
    return documents.seconds_of(len(row.codes), row.fps) if vocab.layout.has_video else len(row.codes) / row.fps


def write_unit(
    folder: RunFolder,
    unit: int,
    batch: Documents,
    vocab: Vocabulary,
    tokenizer: str,
    fingerprint: str,
    refused: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the tables of a unit, its items last: they are its commit mark.

    `batch`: rows and their documents; `refused`: items that gave none.
    """

    def write(temporary: Path) -> None:
        write_shard(temporary, [row for _, row in batch], vocab, fingerprint, tokenizer=tokenizer)

    if batch:
        write_atomically(folder.unit_path(f"tokens/{fingerprint[:12]}", unit), write, root=folder.root)
    tables = {
        "captions": (ledger.CAPTIONS, [_caption(row, document) for row, document in batch if _is_captioned(row)]),
        "samples": (ledger.samples_schema({}), [_sample(row, document, vocab) for row, document in batch]),
        "items": (ledger.ITEMS, [*(_item(row, document, vocab) for row, document in batch), *refused]),
    }
    for table, (schema, entries) in tables.items():
        made = pa.Table.from_pylist([{"unit": unit, **entry} for entry in entries], schema=schema)
        folder.commit(folder.unit_path(table, unit), made)


def _is_captioned(row: Row) -> bool:
    return row.codes is not None and bool(row.text)


def _caption(row: Row, document: dict[str, Any]) -> dict[str, Any]:
    created = datetime.datetime.now(datetime.UTC)
    ids = {"sample_id": document["sample_id"], "caption_source": CAPTION_SOURCE}
    return {**ids, "caption": row.text, "parts": 1, "created": created}


def _sample(row: Row, document: dict[str, Any], vocab: Vocabulary) -> dict[str, Any]:
    ids = {key: document[key] for key in ("sample_id", "item_id", "kind", "fps")}
    return {**ids, "start_s": 0.0, "end_s": _seconds(row, vocab), "n_frames": 0}


def _item(row: Row, document: dict[str, Any], vocab: Vocabulary) -> dict[str, Any]:
    ids = {key: document[key] for key in ("item_id", "uri", "kind", "fps", "source", "licence", "url")}
    alt = row.text if _is_captioned(row) else None
    return {**ids, "status": "done", "n_samples": 1, "duration_s": _seconds(row, vocab), "alt": alt}
