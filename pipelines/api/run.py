"""A run folder from Python: its tables as pyarrow tables, its documents parsed, its pictures as NumPy arrays."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelmill.config import nearest, to_dict
from reelmill.errors import ConfigError, DataError
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.media.source import Place, Source, place_of
from reelmill.orchestration.runfolder import FETCHED, RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize.documents import Document, parse
from reelmill.tokenize.shards import Footer, ShardIndex, read_footer

if TYPE_CHECKING:
    from reelmill.orchestration.recipe import Recipe
    from reelmill.pipelines.clips.export import Exported
    from reelmill.tokenize.vision import VisionTokenizer

__all__ = ["Document", "Run", "open_run"]

Frames = npt.NDArray[np.uint8]
VIDEO_JOB, IMAGE_JOB = (f"reelmill.curation.clips:{name}" for name in ("video_clips", "image_clip"))


def open_run(out: str | os.PathLike[str], *, tokenizer: str | None = None) -> Run:
    """Open a run folder that `curate` made (or `reelmill tokens import`, `reelmill chat import`), to read it.

    `tokenizer` names the vision tokenizer that made its tokens (a name or a file), where it is neither a shipped one
    nor the one that the recipe names. Raises DataError when `out` is no run folder.
    """
    return Run(RunFolder(Path(out)).require().root, tokenizer)


class Run:
    """A run folder, read-only. Make one with `reelmill.open_run`; `path` is the folder.

    Every call reads what the folder holds at that moment: a run that is still going on may be opened.
    """

    def __init__(self, path: Path, tokenizer: str | None = None) -> None:
        self.path = path
        self._named_tokenizer = tokenizer
        self._footers: dict[str, Footer] = {}
        self._tokenizers: dict[str, VisionTokenizer] = {}

    def __repr__(self) -> str:
        return f"reelmill.open_run({str(self.path)!r})"

    @property
    def recipe(self) -> Recipe:
        """The recipe that the folder was made with, as a dataclass: `run.recipe.rules["motion"].min`."""
        from reelmill.orchestration.recipe import load_recipe

        return load_recipe(self.path)

    @property
    def selections(self) -> list[str]:
        """Names of the selections: `default`, and those of `reelmill select`."""
        names = {path.stem for path in (self.path / "verdicts").glob("*.parquet")} - {"schema", "default"}
        return ["default", *sorted(names)]

    def items(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row an item of the dump: what it is, or why it was refused."""
        return self._table("items", columns)

    def samples(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row a sample (a clip, an image, a text): span, scores, verdict under the run's own rules, caption."""
        return self._table("samples", columns)

    def verdicts(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row a sample and selection: kept, rejected or undecided, and by which rule."""
        return self._table("verdicts", columns)

    def captions(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row a sample, source and model."""
        return self._table("captions", columns)

    def failures(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Kept samples that could not be tokenized, and why."""
        return self._table("failures", columns)

    def tokens(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row a document; its column `tokens` holds the ids. Large: name the columns that you need."""
        return self._table("tokens", columns)

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The rows of one SELECT over the views (docs/formats.md#views), by DuckDB; `?` stands for a parameter.

        The connection reads this folder and nothing else. Raises ConfigError where the query fails.
        """
        with self._ledger() as ledger:
            return ledger.ask(query, parameters)

    def selection(self, name: str = "default", columns: Sequence[str] | None = None) -> pa.Table:
        """The samples that a selection keeps: the columns of `samples`, with that selection's verdict."""
        if name not in self.selections:
            raise ConfigError(f"no selection {name!r} in {self.path}; {nearest(name, self.selections)}")
        query = f"""SELECT {_quoted(columns)} FROM (
            SELECT s.* REPLACE (v.status AS status, v.stage AS stage, v.rule AS rule, v.value AS value,
                v.threshold AS threshold, v.duplicate_of AS duplicate_of)
            FROM samples s JOIN verdicts v USING (sample_id) WHERE v.selection = ? AND v.status = 'kept')"""
        with self._ledger() as ledger:
            self._check(ledger, "samples", columns)
            return ledger.table(query, [name])

    def documents(
        self,
        selection: str | None = "default",
        *,
        kinds: Collection[str] = ("video", "image", "text", "interleaved"),
        fingerprint: str | None = None,
    ) -> Iterator[tuple[dict[str, Any], Document]]:
        """Pairs of a document's row (without its tokens) and the document, parsed: `caption`, `codes`, `tokens`, ...

        Those of the samples that `selection` keeps; None takes all. `fingerprint`: first digits of the tokenization to
        read, where the folder has several; the run's own when not given. Raises DataError where there are no tokens.
        """
        index = ShardIndex(self.path, fingerprint=fingerprint or self._fingerprint, selection=selection)
        number = 0
        for batch in index.columns.to_batches():
            for row in batch.to_pylist():
                if row["kind"] in kinds:
                    document = parse(index.footer.vocab, index.view(number).copy())
                    yield {**row, "fingerprint": index.footer.fingerprint}, document
                number += 1

    def parse(self, row: Mapping[str, Any]) -> Document:
        """The document of a row of `tokens` (anything with the keys `tokens` and `fingerprint`)."""
        return parse(self._footer(row["fingerprint"]).vocab, np.asarray(row["tokens"], np.int32))

    def decode(self, row: Mapping[str, Any] | Document, *, block: int = 0) -> Frames:
        """The frames that a document's codes stand for, uint8 [T, H, W, 3], RGB; T is 1 for an image.

        `row` is a row of `tokens`, or a document of `documents`. `block`: which picture of an interleaved document.
        Raises DataError for a text, and where the vision tokenizer is not at hand.
        """
        if isinstance(row, Document):
            document, footer = row, self._footer(self._fingerprint)
        else:
            document, footer = self.parse(row), self._footer(row["fingerprint"])
        if not 0 <= block < len(document.blocks):
            raise DataError(f"the document has {len(document.blocks)} pictures, numbered from 0; none is {block}")
        codes, header = document.block_codes(document.blocks[block]), document.blocks[block].header
        tokenizer = self._tokenizer(footer.tokenizer)
        return tokenizer.decode(codes) if header.is_video else tokenizer.decode_image(codes[0])[None]

    def frames(self, sample_id: str, *, fps: float | None = None, short_side: int | None = None) -> Frames:
        """Frames of a sample's source, decoded anew: uint8 [T, H, W, 3], RGB, upright; T is 1 for an image.

        `fps` frames a second, shorter side `short_side` (never enlarged); those that the scorers saw when not given.
        The bytes are decoded in a process of their own, as in curation. Raises DataError where the sample is unknown or
        a text, or the source is gone.
        """
        from reelmill.curation.clip_messages import decode_clips
        from reelmill.media.geometry import fit

        sample = self._sample(sample_id)
        decode = self.recipe.score.decode
        width, height = fit(
            sample["width"], sample["height"], short_side or decode.short_side, max(decode.long_side, short_side or 0)
        )
        clip = {"key": sample_id, "start_s": sample["start_s"], "width": width, "height": height}
        if sample["kind"] == "video":
            rate = fps or decode.sample_fps
            length = sample["end_s"] - sample["start_s"]
            clip.update(fps=rate, frames=max(int(np.ceil(length * rate - 1e-6)), 1))
        job = VIDEO_JOB if sample["kind"] == "video" else IMAGE_JOB
        at, fetched = sample["place"], sample["fetched"]
        if fetched is not None and fetched["tar"] is not None:
            source: Place = Source(str(self.path / FETCHED / fetched["tar"]), fetched["offset"], fetched["bytes"])
        else:
            source = place_of(at["path"], at["offset"], at["size"], at.get("member"))  # earlier plans know no members
        try:
            frames: Frames
            ((_, frames),) = decode_clips(self._child, job, source, to_dict(decode), [clip], list)
        except ItemFailed as failure:
            raise DataError(f"{sample['uri']} cannot be decoded: {failure.reason}") from None
        return frames

    def export_clips(
        self,
        folder: str | os.PathLike[str],
        *,
        selection: str = "default",
        kinds: Collection[str] = ("video", "image"),
        shard_mb: int = 512,
        quiet: bool = False,
    ) -> Exported:
        """Write the clips and images that a selection keeps as WebDataset shards, as `reelmill clips export` does.

        Returns how many were written, kept whole, there already, unreadable.
        """
        from reelmill.pipelines.clips.export import export_clips

        log_fn = (lambda _: None) if quiet else print
        return export_clips(self.path, Path(folder), selection, list(kinds), shard_mb, log_fn)

    def _sample(self, sample_id: str) -> dict[str, Any]:
        query = """SELECT s.kind, s.start_s, s.end_s, s.width, s.height, s.uri, p AS place, f AS fetched
            FROM samples s JOIN plan p USING (item_id) LEFT JOIN fetches f USING (item_id) WHERE s.sample_id = ?"""
        with self._ledger() as ledger:
            found = ledger.rows(query, [sample_id]) if ledger.has("plan") else []
        if not found:
            raise DataError(f"no sample {sample_id!r} with a source in {self.path}")
        if found[0]["kind"] == "text":
            raise DataError(f"{found[0]['uri']} is a text; its words are in its document (`Run.documents`)")
        if found[0]["kind"] == "audio":
            raise DataError(f"{found[0]['uri']} is a recording without pictures; its words are in `transcripts`")
        return found[0]

    def _ledger(self) -> LedgerQueries:
        """The folder's tables; DataError where a file of them is gone or changed."""
        return LedgerQueries(RunFolder(self.path).require_sound().root)

    def _table(self, view: str, columns: Sequence[str] | None) -> pa.Table:
        with self._ledger() as ledger:
            self._check(ledger, view, columns)
            return ledger.table(f"SELECT {_quoted(columns)} FROM {view}")

    def _check(self, ledger: LedgerQueries, view: str, columns: Sequence[str] | None) -> None:
        """ConfigError for a column that a view does not have."""
        there = ledger.table(f"SELECT * FROM {view} LIMIT 0").column_names if columns is not None else []
        for name in columns or ():
            if name not in there:
                raise ConfigError(f"{view} has no column {name!r}; {nearest(name, there)}")

    @property
    def _fingerprint(self) -> str:
        """Of the run's own tokens; without a `run.json` of the only ones that there are."""
        path = self.path / "run.json"
        own = json.loads(path.read_text(encoding="utf-8")).get("tokens_fingerprint") if path.is_file() else None
        return own or ShardIndex(self.path).footer.fingerprint

    def _footer(self, fingerprint: str) -> Footer:
        if fingerprint not in self._footers:
            for path in sorted((self.path / "tokens").glob(f"{fingerprint[:12]}/unit-*.parquet")):
                _, footer = read_footer(path)
                self._footers[footer.fingerprint] = footer
        if fingerprint not in self._footers:
            raise DataError(f"{self.path} has no tokens of fingerprint {fingerprint[:12]}")
        return self._footers[fingerprint]

    def _tokenizer(self, fingerprint: str) -> VisionTokenizer:
        """The vision tokenizer of that fingerprint: the one named, the recipe's, or a shipped one."""
        from reelmill.tokenize import vision

        if fingerprint not in self._tokenizers:
            name = self._named_tokenizer
            if name is None and fingerprint == self._recorded_tokenizer.get("fingerprint"):
                name = self._recorded_tokenizer["name"]
            self._tokenizers[fingerprint] = vision.load_by_fingerprint(fingerprint, name)
        return self._tokenizers[fingerprint]

    @property
    def _recorded_tokenizer(self) -> dict[str, Any]:
        """Name and fingerprint of the run's vision tokenizer (`run.json`)."""
        path = self.path / "run.json"
        run = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        recorded: dict[str, Any] = run.get("vision_tokenizer", {})
        return recorded

    @cached_property
    def _child(self) -> Child:
        """What decodes media; it ends with this object."""
        isolation: IsolationConfig = self.recipe.score.isolation
        child = Child(isolation)
        weakref.finalize(self, child.close)
        return child


def _quoted(columns: Sequence[str] | None) -> str:
    """SQL for the columns; all, for None."""
    return "*" if columns is None else ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
