"""The tokenize stage: kept samples become documents, for one vision tokenizer and one layout, into token shards."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from reelmill.config import from_dict, identity
from reelmill.curation import clips as jobs
from reelmill.curation.annotations import config as annotation_config
from reelmill.curation.clip_messages import Decoded, decode_clips
from reelmill.curation.ledger import FAILURES, TIMINGS
from reelmill.errors import ConfigError, DataError
from reelmill.files import write_atomically
from reelmill.isolation.failures import failure_of
from reelmill.isolation.parent import ItemFailed
from reelmill.media.source import Source, reading_order
from reelmill.orchestration.changed import MARK
from reelmill.orchestration.decoding_worker import DecodingWorker
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.picture_batches import Codes, PictureBatches
from reelmill.orchestration.plan import group_by
from reelmill.orchestration.positions import Positions
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.stages import StageRunner
from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.orchestration.views import LedgerQueries, content_tag, literal_pattern
from reelmill.tokenize import documents, vision
from reelmill.tokenize.layout import LAYOUTS
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary

WORKER = "reelmill.orchestration.tokens:TokenWorker"
WORKERS = {
    "clips": WORKER,
    "narrated": "reelmill.orchestration.narrated:NarratedWorker",
    "interleaved": "reelmill.orchestration.interleaved:InterleavedWorker",
}
JOBS = {"video": jobs.VIDEO_JOB, "image": jobs.IMAGE_JOB, "text": jobs.TEXT_JOB}


def tokens_fingerprint(config: TokensConfig, tokenizer_fingerprint: str, annotations: str = "") -> str:
    """What a token depends on beside its sample: the tokenizer's weights, every option, and the fingerprint of the
    annotations that documents carry."""
    settings = identity(config)
    if not config.narration.carry:
        del settings["narration"]["carry"]
    if not config.narration.spacy:
        del settings["narration"]["spacy"]
    if not config.narration.distinct:
        del settings["narration"]["distinct"]
    if config.documents == "interleaved":
        del settings["narration"]
    else:
        del settings["interleaved"]
    if config.documents == "clips":  # earlier versions had nothing else
        del settings["documents"], settings["narration"]
    if not config.layout:
        del settings["layout"]
    parts = [settings, tokenizer_fingerprint, documents.LAYOUT_VERSION, *([annotations] if annotations else [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def encoder_run(config: TokensConfig) -> vision.RunConfig:
    """How a worker runs the vision tokenizer. ConfigError for CUDA where there is none."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "tokens.device is cuda and this worker sees no GPU; set it to auto, or engine.gpus_per_worker above 0."
        )
    if config.device == "cpu" or not torch.cuda.is_available():
        return vision.RunConfig(compile=config.compile)
    return vision.RunConfig("cuda", batch=config.batch, compile=config.compile)


def recipe_fingerprint(recipe: Recipe, tokenizer_fingerprint: str) -> str:
    """`tokens_fingerprint` of a recipe, with its annotations where documents carry any."""
    return tokens_fingerprint(recipe.tokens, tokenizer_fingerprint, annotations_fingerprint(recipe))


def annotations_fingerprint(recipe: Recipe) -> str:
    """Of the annotations that documents carry; empty where they carry none."""
    return annotation_config.fingerprint(recipe.annotations) if recipe.tokens.narration.carry else ""


def vocabulary(config: TokensConfig, tokenizer: vision.VisionTokenizer) -> Vocabulary:
    """The id space and the layout: the recipe's text tokenizer, the vision tokenizer's codebook and layout."""
    return Vocabulary(config.text, tokenizer.codes, LAYOUTS[config.layout] if config.layout else tokenizer.layout)


_ROW = """unit, sample_id, item_id, kind, start_s, end_s, width, height, fps, uri, licence, source, url,
    caption, caption_source, keyframes, text_first, text_last"""


def tokenize_selection(
    runner: StageRunner, selection: str, required: Sequence[tuple[str, str]] = ()
) -> tuple[str, str]:
    """Tokenize what the kept samples of a selection lack, then what has another caption than `samples` shows.

    Returns the fingerprints of the tokens and of the vision tokenizer.
    """
    tokenizer = vision.load(runner.recipe.tokens.tokenizer).fingerprint
    fingerprint = recipe_fingerprint(runner.recipe, tokenizer)
    narrated = runner.recipe.tokens.documents == "narrated"
    waits = narrated and runner.recipe.transcripts.wait and bool(runner.recipe.transcripts.sources)
    worker = WORKERS[runner.recipe.tokens.documents]
    annotations = annotations_fingerprint(runner.recipe)
    tasks = token_tasks(
        runner.folder, selection, fingerprint, required, narrated=narrated, for_words=waits, annotations=annotations
    )
    runner.run("tokenize", worker, tasks, tokens_fingerprint=fingerprint)
    stale = stale_tasks(runner.folder, selection, fingerprint)
    runner.run("tokenize again", worker, stale, tokens_fingerprint=fingerprint)
    return fingerprint, tokenizer


def token_tasks(
    folder: RunFolder,
    selection: str,
    fingerprint: str,
    required: Sequence[tuple[str, str]] = (),
    *,
    narrated: bool = False,
    for_words: bool = False,
    annotations: str = "",
) -> list[Task]:
    """One task per unit: kept samples of `selection` that have neither tokens nor a failure under this fingerprint.

    The unit with the most seconds comes first, so that no worker begins it when the others end. A video or image has
    its turn when it has a good caption, and an answer, good or junk, of each `required` (source, model). With
    `narrated` a video or recording needs none; with `for_words` it has its turn when it is transcribed, with
    `annotations`, a fingerprint, when it is annotated.
    """
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(
            f"""SELECT {_ROW} FROM (SELECT *, $4 AND kind IN ('video', 'audio') AS is_narrated FROM samples) s
            WHERE (kind = 'text' OR is_narrated OR caption IS NOT NULL) AND NOT ($5 AND is_narrated AND n_words IS NULL)
            AND NOT ($6 <> '' AND is_narrated AND sample_id NOT IN (SELECT sample_id FROM annotations
                JOIN narrations USING (sample_id, basis) WHERE annotations.kind = 'summary' AND fingerprint = $6))
            AND sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')
            AND sample_id NOT IN (SELECT sample_id FROM tokens WHERE fingerprint = $2)
            AND sample_id NOT IN (SELECT sample_id FROM failures WHERE fingerprint = $2)
            AND (kind = 'text' OR is_narrated OR len($3) = (SELECT count(DISTINCT caption_source) FROM captions c
                WHERE c.sample_id = s.sample_id AND list_contains($3::VARCHAR[], caption_source || '=' || model)))
            ORDER BY unit, item_id, start_s""",
            [
                *(selection, fingerprint, [f"{source}={model}" for source, model in required]),
                *(narrated, for_words, annotations),
            ],
        )
    tasks = [{"unit": unit, "items": len(group), "rows": group} for unit, group in group_by(rows, "unit")]
    return sorted(tasks, key=lambda task: -sum((row["end_s"] or 0) - (row["start_s"] or 0) for row in task["rows"]))


def stale_tasks(folder: RunFolder, selection: str, fingerprint: str) -> list[Task]:
    """One task per shard that holds a document whose sample has now a caption of another source: it is written anew.

    The shard keeps its name, so that it is replaced at once and no document is missing or doubled at any time.
    """
    if not any((folder.root / "tokens").glob("*/unit-*.parquet")):
        return []
    shards = f"{literal_pattern(str(folder.root))}/tokens/*/unit-*.parquet"
    with LedgerQueries(folder.root) as ledger:
        stale = ledger.rows(
            """SELECT DISTINCT filename FROM read_parquet($3, filename = true, union_by_name = true) t
            JOIN chosen_captions c USING (sample_id)
            WHERE fingerprint = $2 AND kind <> 'text' AND t.caption_source <> c.caption_source
            AND sample_id IN (SELECT sample_id FROM verdicts WHERE selection = $1 AND status = 'kept')""",
            [selection, fingerprint, shards],
        )
        if not stale:
            return []
        rows = ledger.rows(
            f"""SELECT {_ROW}, filename FROM samples JOIN
            (SELECT DISTINCT sample_id, filename FROM read_parquet($1, filename = true, union_by_name = true)
                WHERE fingerprint = $2 AND list_contains($3::VARCHAR[], filename)) USING (sample_id)
            ORDER BY filename, item_id, start_s""",
            [shards, fingerprint, [row["filename"] for row in stale]],
        )
    return [
        {"unit": group[0]["unit"], "items": len(group), "rows": group, "tag": Path(name).stem.rpartition("-")[2]}
        for name, group in group_by(rows, "filename")
    ]


Picture = tuple[dict[str, Any], Mapping[str, Any], Any]


@dataclass
class Made:
    """Token rows of an item's samples, and by their ids the failures of those that have none. `pictures` are samples
    whose picture is still to be encoded, with their clips and pixels [H, W, 3]."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, ItemFailed] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)


class TokenWorker(DecodingWorker):
    """Decodes a unit's kept samples at token resolution, encodes them, writes one token shard."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._config = from_dict(TokensConfig, settings["tokens"])
        self._tokenizer = vision.load(self._config.tokenizer, encoder_run(self._config))
        self._vocab = vocabulary(self._config, self._tokenizer)
        self._fingerprint: str = settings["tokens_fingerprint"]

    def __call__(self, task: Task) -> Receipt:
        """Tokenize and commit one unit's samples."""
        began, decoding = time.process_time(), self._child.cpu_s
        rows: list[dict[str, Any] | None] = []
        failed: dict[str, ItemFailed] = {}
        pictures = PictureBatches(self._tokenizer)
        scored = self._scored(task["unit"])
        items = sorted(group_by(task["rows"], "item_id"), key=lambda item: reading_order(self._sources[item[0]]))
        self._positions = Positions(self._folder, task["unit"])
        for item_id, samples in items:
            self._positions.begin(item_id, samples[0]["uri"])
            made = self._item(scored.get(item_id, {}), samples)
            rows.extend(made.rows)
            failed.update(made.failures)
            for picture in made.pictures:
                rows.append(None)
                pictures.add(picture[2], partial(self._take_codes, rows, failed, len(rows) - 1, picture))
        pictures.flush()
        made_rows = [row for row in rows if row is not None]
        done = {row["sample_id"] for row in made_rows}
        short = ItemFailed("item", f"too_short: less than one latent frame of {self._tokenizer.temporal} frames")
        failures = [
            self._failure(sample, failed.get(sample["sample_id"], short))
            for sample in task["rows"]
            if sample["sample_id"] not in done
        ]
        tag = task.get("tag") or content_tag(row["sample_id"] for row in task["rows"])
        seconds = {"decode": self._child.cpu_s - decoding, "encode": time.process_time() - began}
        self._commit_timings(task, tag, seconds)
        self._commit(task["unit"], tag, made_rows, failures)
        self._positions.end()
        tokens = sum(row["n_tokens"] for row in made_rows)
        counts = {"items": len(task["rows"]), "documents": len(made_rows), "tokens": tokens, "failed": len(failures)}
        return {"unit": task["unit"], **counts}

    def _commit(self, unit: int, tag: str, rows: list[dict[str, Any]], failures: list[dict[str, Any]]) -> None:
        folder = self._folder

        def write(temporary: Path) -> None:
            write_shard(temporary, rows, self._vocab, self._fingerprint, tokenizer=self._tokenizer.fingerprint)
            folder.check_epoch()

        if failures:
            table = pa.Table.from_pylist(failures, schema=FAILURES)
            folder.commit(folder.unit_path("failures", unit, f"{tag}-{self._fingerprint[:12]}"), table)
        if rows:
            path = folder.unit_path(f"tokens/{self._fingerprint[:12]}", unit, tag)
            write_atomically(path, write, root=folder.root)

    def _commit_timings(self, task: Task, tag: str, seconds: dict[str, float]) -> None:
        media_s = sum(row["end_s"] - row["start_s"] for row in task["rows"])
        known = {"unit": task["unit"], "move": "tokenize", "items": len(task["rows"]), "media_s": media_s}
        rows = [{**known, "stage": part, "cpu_s": cpu_s} for part, cpu_s in seconds.items()]
        path = self._folder.unit_path("timings", task["unit"], f"{tag}-{self._fingerprint[:12]}")
        self._folder.commit(path, pa.Table.from_pylist(rows, schema=TIMINGS))

    def _scored(self, unit: int) -> dict[str, dict[str, Any]]:
        """The unit's rows of `items` by id: what its bytes were when they were scored."""
        rows = self._folder.read(self._folder.unit_path("items", unit)).to_pylist()
        return {row["item_id"]: row for row in rows}

    def _check_same(self, source: Source, scored: Mapping[str, Any]) -> None:
        """ItemFailed where the item's bytes are not those that were scored, or cannot be read."""
        try:
            if self._config.trust_dump and all(scored.get(name) == value for name, value in source.stamp().items()):
                return
            if scored.get("sha256") not in (None, source.sha256()):
                raise ItemFailed("machine", f"{MARK}its bytes are not those that were scored; it is scored again")
        except (DataError, OSError) as error:
            raise ItemFailed("machine", f"unreadable: {error}") from None

    def _item(self, scored: Mapping[str, Any], samples: list[dict[str, Any]]) -> Made:
        """Documents of one item's samples, and why others have none: a sample that fails leaves the others alone."""
        made = Made()
        try:
            source = self._child.opened(self._sources[samples[0]["item_id"]])
            self._check_same(source, scored)
        except ItemFailed as failure:
            made.failures.update({sample["sample_id"]: failure for sample in samples})
            return made
        clips: list[dict[str, Any]] = []
        for sample in samples:
            try:
                clips.extend(self._clips(sample))
            except Exception as error:
                made.failures[sample["sample_id"]] = failure_of(error)
        if not clips:
            return made
        job, take = JOBS[samples[0]["kind"]], partial(self._documents, samples, made)
        try:
            decode_clips(self._child, job, source, self._options, clips, take)
        except Exception as error:
            made.rows.clear()
            made.pictures.clear()
            made.failures.update({sample["sample_id"]: failure_of(error) for sample in samples})
        return made

    def _documents(self, samples: list[dict[str, Any]], made: Made, clips: Iterator[Decoded]) -> None:
        by_id = {sample["sample_id"]: sample for sample in samples}
        made.rows.clear()
        made.pictures.clear()
        for clip, decoded in clips:
            sample = by_id[clip["key"].partition("/")[0]]
            if sample["sample_id"] in made.failures:
                continue
            if sample["kind"] == "image":
                made.pictures.append((sample, clip, decoded[0]))
                continue
            try:
                made.rows.append(self._document(sample, clip, decoded))
            except Exception as error:
                made.failures[sample["sample_id"]] = failure_of(error)
        made.rows[:] = [row for row in made.rows if row["sample_id"] not in made.failures]

    def _document(self, sample: dict[str, Any], clip: Mapping[str, Any], decoded: Any) -> dict[str, Any]:
        if sample["kind"] == "text":
            ids = documents.text_document(self._vocab, decoded)
        else:
            ids = self._clip_document(sample, clip, decoded)
        return self._document_row(sample, clip, ids)

    def _take_codes(
        self,
        rows: list[dict[str, Any] | None],
        failed: dict[str, ItemFailed],
        place: int,
        picture: Picture,
        codes: Codes | Exception,
    ) -> None:
        """A picture is encoded, or could not be: its document, in its place."""
        sample, clip, _ = picture
        try:
            if isinstance(codes, Exception):
                raise codes
            after = documents.caption_after(sample["sample_id"], self._config.caption_after, self._config.seed)
            ids = documents.image_document(self._vocab, codes, sample["caption"], caption_after=after)
            rows[place] = self._document_row(sample, clip, ids)
        except Exception as error:
            failed[sample["sample_id"]] = failure_of(error)

    def _document_row(self, sample: dict[str, Any], clip: Mapping[str, Any], ids: Any) -> dict[str, Any]:
        known = {key: sample[key] for key in ("sample_id", "licence", "source", "url", "uri", "caption_source")}
        place = {"item_id": sample["item_id"], "part": clip["part"], "start_s": clip["start_s"]}
        return document_row(self._vocab, ids, fingerprint=self._fingerprint, **known, **place)

    def _clip_document(self, sample: dict[str, Any], clip: Mapping[str, Any], frames: Any) -> Any:
        after = documents.caption_after(sample["sample_id"], self._config.caption_after, self._config.seed)
        codes = self._tokenizer.encode(frames)
        return documents.clip_document(self._vocab, codes, sample["caption"], clip["fps"], caption_after=after)

    def _clips(self, sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The parts of a sample, each at most `max_latent_frames` long; none for a clip shorter than a latent frame."""
        config = self._config
        if sample["kind"] == "text":
            place = {"first": sample["text_first"], "last": sample["text_last"]}
            known = {name: value for name, value in place.items() if value is not None}  # NULL in earlier runs
            yield {"key": f"{sample['sample_id']}/0", "part": 0, "start_s": 0.0, **known}
            return
        cell, ratio = self._tokenizer.spatial, f"{sample['width']}:{sample['height']}"
        try:
            rows, columns = documents.grid_for_ratio(ratio, config.area, cell, self._vocab.layout)
        except ConfigError as error:  # of this shape, not of the recipe
            raise ItemFailed("item", f"too_narrow: {error}") from None
        size = {"height": rows * cell, "width": columns * cell}
        if sample["kind"] == "image":
            yield {"key": f"{sample['sample_id']}/0", "part": 0, "start_s": 0.0, **size}
            return
        fps = round(min(config.fps, sample["fps"]), 3)
        temporal = self._tokenizer.temporal
        latents = int((sample["end_s"] - sample["start_s"]) * fps + 1e-6) // temporal
        for part, first in enumerate(range(0, latents, config.max_latent_frames)):
            frames = temporal * min(config.max_latent_frames, latents - first)
            start_s = sample["start_s"] + first * temporal / fps
            key = f"{sample['sample_id']}/{part}"
            yield {"key": key, "part": part, "start_s": start_s, "fps": fps, "frames": frames, **size}

    def _failure(self, sample: dict[str, Any], failure: ItemFailed) -> dict[str, Any]:
        known = {"unit": sample["unit"], "sample_id": sample["sample_id"], "fingerprint": self._fingerprint}
        return {**known, "stage": "tokenize", "reason": failure.reason, "reason_class": failure.reason_class}
