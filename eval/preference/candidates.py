"""Candidates: pictures sampled for a prompt, stored as the exact tokens that were sampled.

    FOLDER/candidates/*.parquet     rows of CANDIDATES_SCHEMA, with the footer of token shards
    FOLDER/pictures/ID.png          what people see, decoded once from the tokens

There is no other state: what is still to be sampled or decoded is what these files lack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.files import write_atomically
from reelmill.tokenize.documents import DocumentError, parse
from reelmill.tokenize.shards import Footer, read_footer
from reelmill.tokenize.shards.format import UNREADABLE, token_lists
from reelmill.tokenize.vision import VisionTokenizer
from reelmill.tokenize.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]

_REQUIRED: dict[str, pa.DataType] = {
    "candidate_id": pa.string(),
    "prompt_id": pa.string(),
    "prompt": pa.string(),
    "place": pa.int32(),
    "number": pa.int32(),
    "tokens": pa.list_(pa.field("element", pa.int32(), nullable=False)),
    "n_prompt": pa.int32(),
    "n_tokens": pa.int32(),
    "grid_h": pa.int32(),
    "grid_w": pa.int32(),
    "checkpoint": pa.string(),
    "step": pa.int32(),
    "weights": pa.string(),
    "temperature": pa.float64(),
    "top_k": pa.int32(),
    "top_p": pa.float64(),
    "guidance": pa.float64(),
    "negative": pa.string(),
    "seed": pa.int64(),
    "stream": pa.int64(),
    "created": pa.timestamp("us", tz="UTC"),
    "decode": pa.string(),
}
CANDIDATES_SCHEMA = pa.schema([pa.field(name, type_, nullable=False) for name, type_ in _REQUIRED.items()])
_WITHOUT_DECODE = pa.schema([field for field in CANDIDATES_SCHEMA if field.name != "decode"])
"""The columns of earlier versions, which decoded one token a pass."""
SETTINGS = ("grid_h", "grid_w", "temperature", "top_k", "top_p", "guidance", "negative", "seed", "decode")
"""Columns that are equal for all candidates of a folder."""
_SHORT = [name for name in CANDIDATES_SCHEMA.names if name != "tokens"]


@dataclass(frozen=True)
class Candidate:
    """A row without its tokens, which are in row `row` of the file `path`."""

    id: str
    prompt_id: str
    prompt: str
    number: int
    weights: str
    path: Path
    row: int


@dataclass(frozen=True)
class Checkpoint:
    """What sampled candidates: its folder and step at the time, and the SHA-256 of its weights, which identifies it."""

    place: str
    step: int
    weights: str


class Candidates:
    """The candidates of a folder. `by_prompt` maps each prompt_id, in the order of the prompts, to its candidates.

    `checkpoints`: those that sampled them, in the order of their first candidates. `settings`: how all were sampled. If
    two processes sampled the same candidate, the first one written counts. Raises DataError for a damaged file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.footers: dict[Path, Footer] = {}
        rows = [row for path in sorted((self.folder / "candidates").glob("*.parquet")) for row in self._rows(path)]
        rows.sort(key=lambda row: row["created"])
        self.settings: dict[str, Any] = {name: rows[0][name] for name in SETTINGS} if rows else {}
        checkpoints: dict[str, Checkpoint] = {}
        for row in rows:
            checkpoints.setdefault(row["weights"], Checkpoint(row["checkpoint"], row["step"], row["weights"]))
        self.checkpoints = list(checkpoints.values())
        first: dict[str, dict[str, Any]] = {}
        for row in rows:
            first.setdefault(row["candidate_id"], row)
        order = {weights: number for number, weights in enumerate(checkpoints)}
        self.by_prompt: dict[str, list[Candidate]] = {}
        for row in sorted(first.values(), key=lambda r: (r["place"], r["prompt_id"], order[r["weights"]], r["number"])):
            candidate = Candidate(
                row["candidate_id"],
                row["prompt_id"],
                row["prompt"],
                row["number"],
                row["weights"],
                row["path"],
                row["row"],
            )
            self.by_prompt.setdefault(candidate.prompt_id, []).append(candidate)
        self.by_id = {candidate.id: candidate for candidates in self.by_prompt.values() for candidate in candidates}

    def __len__(self) -> int:
        return len(self.by_id)

    def picture(self, candidate_id: str) -> Path:
        """The file of a candidate's picture."""
        return self.folder / "pictures" / f"{candidate_id}.png"

    def read(self, candidates: Sequence[Candidate]) -> list[tuple[Ids, int]]:
        """The exact tokens, int32 [n], of candidates, and how many of them are the prompt. Each file is read once."""
        tokens: dict[str, tuple[Ids, int]] = {}
        for path in dict.fromkeys(candidate.path for candidate in candidates):
            table = _read(path, ["tokens", "n_prompt"])
            flat, offsets = token_lists(table["tokens"])
            n_prompt = table["n_prompt"].to_pylist()
            for one in candidates:
                if one.path == path:
                    tokens[one.id] = flat[offsets[one.row] : offsets[one.row + 1]].copy(), n_prompt[one.row]
        return [tokens[candidate.id] for candidate in candidates]

    def undecoded(self) -> list[Candidate]:
        """The candidates without a picture."""
        decoded = {path.stem for path in (self.folder / "pictures").glob("*.png")}
        return [candidate for name, candidate in self.by_id.items() if name not in decoded]

    def decode(self, vision: VisionTokenizer, candidates: Sequence[Candidate]) -> None:
        """Decode candidates and write their pictures, with nothing in the files that shows where they come from."""
        for path in dict.fromkeys(candidate.path for candidate in candidates):
            vocab = self.footers[path].vocab
            here = [candidate for candidate in candidates if candidate.path == path]
            for candidate, (tokens, _) in zip(here, self.read(here), strict=True):
                picture = vision.decode_image(parse(vocab, tokens).codes[0])
                write_atomically(self.picture(candidate.id), partial(_write_png, picture), root=self.folder)

    def problems(self) -> Iterator[str]:
        """What is wrong with the documents, a sentence each. All tokens are read and parsed."""
        for path, footer in self.footers.items():
            here = [candidate for candidate in self.by_id.values() if candidate.path == path]
            for candidate, (tokens, n_prompt) in zip(here, self.read(here), strict=True):
                problem = _problem(footer.vocab, tokens, n_prompt)
                if problem:
                    yield f"{path}: candidate {candidate.id}: {problem}"

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        metadata, self.footers[path] = read_footer(path)
        schema = metadata.schema.to_arrow_schema()
        if not any(schema.equals(known, check_metadata=False) for known in (CANDIDATES_SCHEMA, _WITHOUT_DECODE)):
            raise DataError(
                f"{path} does not have the columns of candidates; `reelmill prefer sample` writes such files."
            )
        columns = [name for name in _SHORT if name in schema.names]
        for number, row in enumerate(_read(path, columns).to_pylist()):
            yield {"decode": "plain", **row, "path": path, "row": number}


def digest(*fields: str) -> str:
    """The first 32 hex digits of the SHA-256 of texts."""
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()[:32]


def write_candidates(folder: Path, rows: Sequence[Mapping[str, Any]], footer: Footer) -> Path:
    """Write rows of CANDIDATES_SCHEMA to a file that is named by its content; returns its path."""
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in CANDIDATES_SCHEMA]
    schema = CANDIDATES_SCHEMA.with_metadata(footer.to_metadata())
    table = pa.table(columns, schema=schema)
    path = folder / "candidates" / f"{digest(*(row['candidate_id'] for row in rows))[:12]}.parquet"

    def write(temporary: Path) -> None:
        pq.write_table(
            table,
            temporary,
            compression=dict.fromkeys(_SHORT, "zstd") | {"tokens.list.element": "lz4"},
            use_dictionary=[field.name for field in schema if field.type == pa.string()],
            column_encoding={"tokens.list.element": "BYTE_STREAM_SPLIT"},
            write_page_checksum=True,
        )

    write_atomically(path, write, root=folder)
    return path


def _problem(vocab: Vocabulary, tokens: Ids, n_prompt: int) -> str:
    try:
        document = parse(vocab, tokens)
    except DocumentError as error:
        return f"it is no document: {error}"
    frames = [block.header.t for block in document.blocks]
    if frames != [1]:
        return f"it has blocks of {frames} latent frames; a candidate is one picture"
    if not 0 < n_prompt < len(tokens):
        return f"{n_prompt} of its {len(tokens)} tokens are the prompt; it must be followed by a picture"
    return ""


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns, use_threads=False)
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}. Delete it and sample again.") from error


def _write_png(image: npt.NDArray[np.uint8], path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(path, format="PNG")
