"""`reelmill chat import`: conversations about pictures become a run folder to train on.

Pictures are decoded in the untrusted child, at Emu3's size rule, and encoded. The folder is made beside its name, unit
by unit, and renamed when it is whole; the same command after a kill goes on behind the last whole unit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from reelmill.config import nearest, to_dict
from reelmill.curation import ledger
from reelmill.curation.pictures import PICTURE_JOB, PixelBounds
from reelmill.curation.scoring import ScoreConfig
from reelmill.errors import ConfigError, DataError, MachineError
from reelmill.files import sha256, write_text
from reelmill.isolation.messages import PICTURE
from reelmill.isolation.parent import Child, ItemFailed
from reelmill.media.source import Source
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.orchestration.views import write_database
from reelmill.pipelines.curate.recipes import DEFAULT
from reelmill.pipelines.curate.verdicts import write_verdicts
from reelmill.pipelines.imports.chat_rows import ChatRow, Frame, Part, Picture, chat_files, chat_rows
from reelmill.pipelines.imports.folder import Row
from reelmill.pipelines.imports.frames import FrameReader
from reelmill.pipelines.imports.task_rows import LAYOUTS, TaskLayout
from reelmill.pipelines.imports.tokens import Documents, prepare_folder, write_unit
from reelmill.pipelines.report.card import refresh as refresh_card
from reelmill.tokenize import documents
from reelmill.tokenize.documents import SYSTEM, Turn, Visual
from reelmill.tokenize.shards import document_row
from reelmill.tokenize.vision import VisionTokenizer
from reelmill.tokenize.vocabulary import Vocabulary

UNIT_TOKENS = 1_000_000
UNIT_ROWS = 10_000
"""What is committed together: what a kill may cost."""
MADE_OF = "import.json"
"""What an import was made of: a folder that is not whole yet goes on with the same only."""


@dataclass(frozen=True)
class ChatImport:
    """What `import_chats` makes documents with. `pictures`: the folder under which pictures are named.

    `task_layout`: the published layout of data for Emu3.5's tasks (`task_rows.py`); None: conversations. `every`:
    seconds between the pictures of a video in it.
    """

    pictures: Path
    tokenizer: VisionTokenizer
    tokenizer_name: str
    vocab: Vocabulary
    bounds: PixelBounds
    skip_bad: bool = False
    task_layout: str | None = None
    every: float = 1.0

    @property
    def fingerprint(self) -> str:
        """What a document depends on beside its row."""
        parts = ["chat", self.tokenizer.fingerprint, self.vocab.to_json(), documents.LAYOUT_VERSION, SYSTEM]
        parts += [self.task_layout, self.every] if self.task_layout else []
        return hashlib.sha256(json.dumps([*parts, to_dict(self.bounds)]).encode()).hexdigest()


def import_chats(source: Path, out: Path, how: ChatImport, say: Callable[[str], None] = print) -> RunFolder:
    """Write the run folder `out` from the conversations of `source`; returns it.

    Raises ConfigError where `out` is there already, DataError naming file and row for one that cannot be used (with
    `how.skip_bad` such rows are refused items, counted): finished units stay for the next try, `out` is not made.
    """
    _check(out, how)
    layout = LAYOUTS[how.task_layout] if how.task_layout else TaskLayout(chat_files, lambda path, _: chat_rows(path))
    files = layout.files(source)
    unfinished = out.with_name(f"{out.name}.importing")
    with RunFolder(unfinished).lock() as folder, _Maker(how) as maker:
        recipe = Recipe(name="imported", tokens=TokensConfig(tokenizer=how.tokenizer_name, text=how.vocab.text))
        _begin(folder, recipe, files, how)
        done = [pq.read_metadata(path).num_rows for path in sorted((folder.root / "items").glob("unit-*.parquet"))]
        if done:
            say(f"goes on after {sum(done):,} rows")
        rows = islice(layout.rows(source, how.every), sum(done), None)
        for unit, batch in enumerate(_units(maker, rows, source), len(done)):
            _commit(folder, unit, batch, how)
            tokens = sum(row["n_tokens"] for _, row in batch.documents)
            refused = f", {len(batch.refused):,} rows refused" if batch.refused else ""
            say(f"unit {unit}: {len(batch.documents):,} documents, {tokens:,} tokens{refused}")
        if not any((folder.root / "tokens").glob("*/unit-*.parquet")):
            shutil.rmtree(unfinished)
            raise DataError(f"{source} holds no row that can be used; nothing was imported.")
        write_verdicts(folder, DEFAULT, recipe)
        write_database(folder.root, out.resolve())
        refresh_card(folder, out.name)
        unfinished.rename(out)  # over an empty folder too
    return RunFolder(out)


def _check(out: Path, how: ChatImport) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is there already; an import makes a folder of its own, so choose another.")
    if not how.pictures.is_dir():
        raise ConfigError(f"--images {how.pictures} is no folder; name the one under which the pictures lie.")
    if how.task_layout is not None and how.task_layout not in LAYOUTS:
        raise ConfigError(f"no task layout {how.task_layout!r}; {nearest(how.task_layout, LAYOUTS)}")
    if how.task_layout is not None and not how.vocab.layout.has_spans:
        raise ConfigError(
            f"tasks are Emu3.5's, and {how.tokenizer_name} has codes of the layout {how.vocab.layout}; name a "
            "tokenizer without a time axis, such as emu3.5-vision-tokenizer"
        )
    if not how.every > 0:
        raise ConfigError(f"--every is {how.every:g}; seconds between pictures are above 0")
    if not 0 < how.bounds.least <= how.bounds.most:
        raise ConfigError(
            f"--min-pixels is {how.bounds.least:,}, --max-pixels {how.bounds.most:,}; both must be above 0, and the "
            "first not larger."
        )


def _begin(folder: RunFolder, recipe: Recipe, files: list[Path], how: ChatImport) -> None:
    """Make the folder, or see that it is of the same import."""
    sources = {path.name: sha256(path) for path in files}
    made_of = json.dumps({"files": sources, "fingerprint": how.fingerprint, "skip_bad": how.skip_bad}, indent=1)
    path = folder.root / MADE_OF
    if path.is_file() and path.read_text(encoding="utf-8") != made_of:
        raise ConfigError(
            f"{folder.root} is an unfinished import of other rows, or with other options; finish that one with its own "
            "command, or delete the folder."
        )
    prepare_folder(folder, recipe)
    write_text(path, made_of)


@dataclass(frozen=True)
class _Batch:
    """What a unit holds: documents, and rows that were refused."""

    documents: Documents
    refused: list[ChatRow]


def _units(maker: _Maker, rows: Iterable[ChatRow], source: Path) -> Iterator[_Batch]:
    """Rows with their documents, as many together as a unit holds."""
    batch, held = _Batch([], []), 0
    for row in rows:
        try:
            document = maker.document(row)
        except DataError as error:
            if not maker.how.skip_bad:
                raise DataError(f"{source}, row {row.place}: {error}") from None
            batch.refused.append(ChatRow(row.place, problem=str(error)))
        else:
            facts = {key: document[key] for key in ("source", "licence", "url")}
            batch.documents.append((Row(row.place, "", **facts), document))
            held += document["n_tokens"]
        if held >= UNIT_TOKENS or len(batch.documents) + len(batch.refused) >= UNIT_ROWS:
            yield batch
            batch, held = _Batch([], []), 0
    if batch.documents or batch.refused:
        yield batch


def _commit(folder: RunFolder, unit: int, batch: _Batch, how: ChatImport) -> None:
    """Write a unit. Rows that were refused are items with a reason, as everywhere."""
    refused: list[dict[str, Any]] = [
        {
            "item_id": ledger.item_id(row.place),
            "uri": row.place,
            "kind": "text",
            "status": "refused",
            "reason": row.problem,
            "reason_class": "item",
            "n_samples": 0,
        }
        for row in batch.refused
    ]
    write_unit(folder, unit, batch.documents, how.vocab, how.tokenizer.fingerprint, how.fingerprint, refused)


class _Maker:
    """Makes a row's document: its pictures decoded in a child process and encoded."""

    def __init__(self, how: ChatImport) -> None:
        self.how = how
        decoding = ScoreConfig()
        sizes = {**to_dict(how.bounds), "multiple": how.tokenizer.spatial}
        self._options = {**to_dict(decoding.decode), **sizes}
        self._child = Child(decoding.isolation)
        self._frames = FrameReader(how.bounds, how.tokenizer.spatial)

    def __enter__(self) -> _Maker:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def document(self, row: ChatRow) -> dict[str, Any]:
        """The row of a token shard; DataError where there is none."""
        if row.problem:
            raise DataError(row.problem)
        item = ledger.item_id(row.place)
        place: dict[str, Any] = {"item_id": item, "sample_id": ledger.sample_id(item, 0.0, 0.0), "uri": row.place}
        facts: dict[str, Any] = {**row.facts, "fingerprint": self.how.fingerprint}
        if row.parts:
            ids = documents.interleaved_document(self.how.vocab, self._parts(row.parts))
            return document_row(self.how.vocab, ids, **place, **facts)
        turns = [Turn(self._parts(question), self._parts(answer)) for question, answer in row.turns]
        system = SYSTEM if row.system is None else row.system
        chat = documents.chat_document(self.how.vocab, turns, system)
        return document_row(self.how.vocab, chat.tokens, answers=chat.answers, **place, **facts)

    def _parts(self, parts: Iterable[Part]) -> list[documents.Part]:
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> documents.Part:
        if isinstance(part, Frame):
            return Visual(self.how.tokenizer.encode_image(self._frames.frame(self._path(part.name), part)))
        if not isinstance(part, Picture):
            return part
        if part.data is None:
            return self._visual(part.name, self._path(part.name))
        with tempfile.NamedTemporaryFile(suffix=".picture") as file:
            file.write(part.data)
            file.flush()
            return self._visual(part.name, Path(file.name))

    def _path(self, name: str) -> Path:
        """The file of that name; DataError where it is missing or outside of the folder."""
        folder = self.how.pictures.resolve()
        path = (folder / name).resolve() if "\0" not in name else folder
        if not path.is_relative_to(folder) or not path.is_file():
            raise DataError(f"there is no picture {name!r} under {self.how.pictures}")
        return path

    def _visual(self, name: str, path: Path) -> Visual:
        """The codes of a picture; DataError where it is none."""
        source = Source(str(path), 0, path.stat().st_size)
        try:
            ((_, arrays),) = self._child.run_all(PICTURE_JOB, source, self._options, PICTURE, list)
        except ItemFailed as failure:
            kind = DataError if failure.reason_class == "item" else MachineError
            raise kind(f"the picture {name!r} cannot be used: {failure.reason}") from None
        return Visual(self.how.tokenizer.encode_image(arrays["frames"][0]))
