"""Scoring an item: the child expands it, scorers measure its samples, rows come out. Knows no units or files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import partial
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelmill.config import free_table, identity, nearest, to_dict
from reelmill.curation import scorers as registry
from reelmill.curation.interfaces import ColumnType, Frames, Sample
from reelmill.curation.keyframes import KeyframesConfig, Problem
from reelmill.curation.ledger import (
    ARROW_TYPES,
    DAMAGE,
    ITEMS,
    OF_THE_ITEM,
    OF_THE_SCENE,
    OF_THE_TEXT,
    RESERVED,
    judged_schema,
    sample_id,
    samples_schema,
    text_sample_id,
)
from reelmill.curation.measuring import Measurer, NamedScorer
from reelmill.curation.rules import Rule, RuleFilter
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.sidecars import Sidecar, read_sidecar
from reelmill.curation.text_bundles import BUNDLE, JOB, bundled, by_text, read_bytes
from reelmill.curation.text_cleaning import clean_text
from reelmill.curation.texts.config import TextConfig
from reelmill.errors import ConfigError, DataError
from reelmill.isolation.failures import failure_of
from reelmill.isolation.messages import SAMPLES
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.isolation.wire import Message
from reelmill.media import READS_AS
from reelmill.media.limits import Limits
from reelmill.media.source import Source, place_of

TakePicture = Callable[[str, float, npt.NDArray[np.uint8]], None]
BATCH_BYTES = 64 * 1024**2

EXPANDERS = {kind: f"reelmill.curation.expanders.{kind}:expand" for kind in ("video", "image", "text")}

NARRATED = "reelmill.curation.expanders.narrated:expand"
"""The expander of videos into key frames, which alone asks `[score.keyframes]`."""


@dataclass
class DecodeConfig(Limits):
    """What is decoded, and the bounds on untrusted input."""

    sample_fps: float = 2.0
    """Frames a second that the scorers see (Emu3 section 2.1: 2 frames/s)."""
    short_side: int = 256
    """Shorter side of those frames (Emu3 section 2.1: 256)."""
    long_side: int = 1024
    """Longer side of those frames, at most."""
    animations: Literal["image", "video"] = "image"
    """What an animation (GIF, WebP, APNG, AVIF) becomes: its first frame that is not blank, or a short video."""
    max_text_bytes: int = 2 * 1024**2
    """Bytes of a text file."""
    text: TextConfig = field(default_factory=TextConfig)


@dataclass
class ScoreConfig:
    """The score stage: how items are decoded, cut and measured."""

    decode: DecodeConfig = field(default_factory=DecodeConfig)
    isolation: IsolationConfig = free_table(IsolationConfig)
    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    keyframes: KeyframesConfig = field(default_factory=KeyframesConfig)
    expanders: dict[str, str] = field(default_factory=lambda: dict(EXPANDERS))
    """Kind of item to `module:function` of its expander; files of a kind without one are not read."""
    scorers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scorers in the order they run: name to options; `use` names a class, `skip_if` is SQL over earlier columns."""


def score_columns(config: ScoreConfig) -> dict[str, ColumnType]:
    """Columns that the recipe's scorers add to `samples`. ConfigError for a name that is taken."""
    columns: dict[str, ColumnType] = {}
    for name, options in config.scorers.items():
        for column, kind in registry.scorer_class(options.get("use", name)).columns.items():
            if column.lower() in RESERVED or column in columns:
                raise ConfigError(f"scorer {name!r} writes column {column!r}, which another part writes; rename it")
            if kind not in ARROW_TYPES:
                raise ConfigError(f"scorer {name!r}: column {column!r} is {kind!r}; {nearest(kind, ARROW_TYPES)}")
            columns[column] = kind
    return columns


def make_scorers(config: ScoreConfig) -> list[NamedScorer]:
    """Name, `skip_if` and scorer, in the order they run, not set up yet. ConfigError for a wrong option."""
    made = []
    for name, options in config.scorers.items():
        if not re.fullmatch(r"\S+", name):
            raise ConfigError(f"scorer {name!r}: a name has no spaces")
        for key in ("use", "skip_if"):
            if not isinstance(options.get(key, ""), str):
                raise ConfigError(f"score.scorers.{name}.{key} is {options[key]!r}; it must be text")
        own = {key: value for key, value in options.items() if key not in ("use", "skip_if")}
        made.append((name, options.get("skip_if", ""), registry.create(options.get("use", name), own)))
    return made


def score_fingerprint(config: ScoreConfig) -> str:
    """What scores depend on: how items are decoded, cut and measured."""
    settings = identity(config)
    if NARRATED not in config.expanders.values():
        del settings["keyframes"]
    if config.decode.text == TextConfig():  # earlier versions had nothing else
        del settings["decode"]["text"]
    parts = [READS_AS, *settings.values()]
    used = {options.get("use", name) for name, options in config.scorers.items()}
    versions = {name: version for name in sorted(used) if (version := registry.scorer_class(name).version)}
    parts += [versions] if versions else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class ItemScorer:
    """Scores items one after another with one child process and one set of scorers. Not thread safe."""

    def __init__(
        self,
        config: ScoreConfig,
        rules: Mapping[str, Rule],
        on_position: Callable[[float, float | None], None] | None = None,
        pictures: Mapping[str, Any] | None = None,
    ) -> None:
        """`on_position` is told how far in an item the child is (`Child`). `pictures`: what is wanted of key frames for
        `take_picture` (`expanders/narrated.py`)."""
        self._config = config
        self._schema = samples_schema(score_columns(config))
        self.fingerprint = score_fingerprint(config)
        self._options = {
            **to_dict(config.decode),
            "scenes": to_dict(config.scenes),
            "keyframes": to_dict(config.keyframes),
            **({"pictures": dict(pictures)} if pictures is not None else {}),
        }
        self.take_picture: TakePicture = lambda item_id, time_s, frame: None
        """Is given each picture of a key frame: its item, seconds, uint8 [H, W, 3]."""
        self._measurer = Measurer(make_scorers(config), RuleFilter(rules, judged_schema(score_columns(config))))
        self._child = Child(config.isolation, on_position)

    @property
    def samples_schema(self) -> pa.Schema:
        """Schema of the sample rows."""
        return self._schema

    def close(self) -> None:
        """Stop the child."""
        self._child.close()

    def take_timings(self) -> dict[str, float]:
        """CPU seconds since the last call: of the child (`decode and cut`) and of each scorer by name."""
        taken = {"decode and cut": self._child.cpu_s, **self._measurer.cpu_s}
        self._child.cpu_s = 0.0
        self._measurer.cpu_s.clear()
        return taken

    def score(self, item: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Rows (schemas ITEMS and `samples_schema`) of one row of the plan. A bad item is a row with a reason."""
        try:
            if item["problem"]:
                raise ItemFailed("item", item["problem"])
            source = self._child.opened(place_of(item["path"], item["offset"], item["size"], item["member"]))
            sidecar = _sidecar(item)
            row = {**self._item_row(item, sidecar), **_stamp(source)}
            job = self._config.expanders[item["kind"]]
            spans = [[span.start_s, span.end_s] for span in sidecar.spans]
            options = {**self._options, **({"spans": spans} if spans else {})}
            return self._child.run_all(job, source, options, SAMPLES, partial(self._rows, item, row, sidecar))
        except Exception as error:
            return self.refused(item, failure_of(error)), []

    def score_texts(self, items: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The same for texts of a bundle (`text_bundles.py`). Where the child fails over one, each is scored alone."""
        made: dict[int, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        opened: dict[int, tuple[dict[str, Any], Sidecar]] = {}
        data = []
        for number, item in enumerate(items):
            try:
                source = self._child.opened(place_of(item["path"], item["offset"], item["size"], item["member"]))
                sidecar = _sidecar(item)
                opened[number] = {**self._item_row(item, sidecar), **_stamp(source)}, sidecar
                data.append(read_bytes(source))
            except Exception as error:
                opened.pop(number, None)
                made[number] = self.refused(item, failure_of(error)), []
        options = {**self._options, "sizes": [len(one) for one in data]}
        try:
            said = self._child.run_all(JOB, bundled(data), options, BUNDLE, lambda found: by_text(found, len(data)))
        except ItemFailed:
            return [made[number] if number in made else self.score(item) for number, item in enumerate(items)]
        samples: list[Sample] = []
        read: dict[int, tuple[int, dict[str, Any]]] = {}  # how many samples a text has, and its facts
        for number, messages in zip(opened, said, strict=True):
            item, facts = items[number], dict[str, Any]()
            try:
                if isinstance(messages, ItemFailed):
                    raise messages
                parts = list(chain(*_batches(item, opened[number][1], iter(messages), facts)))
                read[number] = len(parts), facts
                samples += parts
            except Exception as error:
                made[number] = self.refused(item, failure_of(error)), []
        rows = iter(self._measurer.measure(samples))
        for number, (count, facts) in read.items():
            try:
                made[number] = self._finished(*opened[number], list(islice(rows, count)), facts)
            except Exception as error:
                made[number] = self.refused(items[number], failure_of(error)), []
        return [made[number] for number in range(len(items))]

    def _rows(
        self, item: Mapping[str, Any], row: Mapping[str, Any], sidecar: Sidecar, messages: Iterator[Message]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        rows: list[dict[str, Any]] = []
        facts: dict[str, Any] = {}
        for batch in _batches(item, sidecar, self._without_pictures(item["item_id"], messages), facts):
            rows.extend(self._measurer.measure(batch))
        return self._finished(row, sidecar, rows, facts)

    def _without_pictures(self, item_id: str, messages: Iterator[Message]) -> Iterator[Message]:
        for body, arrays in messages:
            if body["type"] == "picture":
                self.take_picture(item_id, body["time_s"], arrays["frames"][0])
            else:
                yield body, arrays

    def _finished(
        self, row: Mapping[str, Any], sidecar: Sidecar, rows: list[dict[str, Any]], facts: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """An item's row with what the child says of it, and its samples' rows. ItemFailed where these contradict."""
        if not facts:
            raise ItemFailed("item", "decoder_nonsense: samples without the facts of their item")
        if len({row["sample_id"] for row in rows}) < len(rows):
            raise ItemFailed("item", "decoder_nonsense: two samples of one span")
        known = {name: facts[name] for name in ITEMS.names if name in facts}
        known |= {"codec": sidecar.encoding} if sidecar.encoding else {}
        if row["licence"] is None and (stated := clean_text(facts.get("stated_licence") or "")):
            known |= {"licence": stated, "licence_from": "file"}
        known["copyright"] = clean_text(facts.get("copyright") or "")
        for sample in rows:
            sample.update({name: facts.get(name) for name in OF_THE_ITEM})
        return {**row, **known, "status": "done", "n_samples": len(rows)}, rows

    def keep_known(self, rows: Sequence[dict[str, Any]], before: Mapping[str, Mapping[str, Any]]) -> None:
        """Put back what was measured before, and better than now, see `Measurer.keep_known`."""
        self._measurer.keep_known(rows, before)

    def refused(self, item: Mapping[str, Any], failure: ItemFailed) -> dict[str, Any]:
        """The ITEMS row of an item that could not be used."""
        reason = {"status": "refused", "reason": failure.reason, "reason_class": failure.reason_class}
        try:
            sidecar = _sidecar(item)
        except ItemFailed as unread:
            sidecar = Sidecar(problem=unread.reason)
        return {**self._item_row(item, sidecar), **reason}

    def _item_row(self, item: Mapping[str, Any], sidecar: Sidecar) -> dict[str, Any]:
        """The part of an ITEMS row that the plan and the sidecars know."""
        row: dict[str, Any] = dict.fromkeys(ITEMS.names)
        row.update({name: item[name] for name in ("unit", "item_id", "uri", "kind")}, bytes=item["size"], n_samples=0)
        if item.get("fetched") is not None:
            crawled = item["fetched"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            sidecar = replace(sidecar, licence=sidecar.licence or item["licence"], crawled=crawled)
        known: dict[str, Any] = {
            name: getattr(sidecar, name)
            for name in ("source", "licence", "url", "page_url", "crawled", "alt", "meta", "images")
        }
        if sidecar.licence is not None:
            known["licence_from"] = "page" if sidecar.boilerplate is not None else "sidecar"
        return {**row, **known, "sidecar_problem": sidecar.problem, "score_fingerprint": self.fingerprint}


def _sidecar(item: Mapping[str, Any]) -> Sidecar:
    """What lies beside an item. ItemFailed, of class machine, where it cannot be read: it may say what is allowed."""
    if item["known"] is not None:
        return Sidecar.from_json(item["known"])
    try:
        return read_sidecar(_source(item, "json"), _source(item, "text"))
    except DataError as error:
        raise ItemFailed("machine", f"unreadable: a sidecar: {error}") from None


def _stamp(source: Source) -> dict[str, int | str]:
    """When and how the bytes began, before they are decoded; nothing where they cannot be read: decoding says so."""
    try:
        return source.stamp()
    except (DataError, OSError):
        return {}


def _source(item: Mapping[str, Any], which: str) -> Source | None:
    if item[f"{which}_path"] is None:
        return None
    return Source(item[f"{which}_path"], item[f"{which}_offset"], item[f"{which}_size"])


def _batches(
    item: Mapping[str, Any], known: Sidecar, messages: Iterator[Message], facts: dict[str, Any]
) -> Iterator[list[Sample]]:
    """Samples in batches of about BATCH_BYTES; what the child says of the item goes into `facts`."""
    batch: list[Sample] = []
    size = 0
    keyframes: list[dict[str, Any]] | None = None
    words: Message | None = None
    for body, arrays in messages:
        if body["type"] == "keyframes":
            keyframes = _keyframes(arrays)
            continue
        if body["type"] == "words":
            words = body, arrays
            continue
        if body["type"] == "item":
            facts.update(body)
            continue
        if size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        own = known.alt_at(body["start_s"])
        batch.append(_sample(item, own or known.alt, body, Frames(**arrays)))
        batch[-1].columns["span_alt"] = own
        batch[-1].columns["keyframes"], keyframes = keyframes, None
        if words is not None:
            _take_words(batch[-1], *words)
            batch[-1].columns["boilerplate"] = known.boilerplate
            batch[-1].columns["n_images"] = None if known.images is None else len(known.images)
            if known.encoding_from:  # the archive's reader decoded it
                batch[-1].columns["encoding_from"] = known.encoding_from
            size, words = size + len(batch[-1].text or ""), None
        size += sum(array.nbytes for array in arrays.values())
    if batch:
        yield batch


def _take_words(sample: Sample, body: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Give a sample its text. ItemFailed for words that are not UTF-8."""
    try:
        sample.text = arrays["text"].tobytes().decode()
    except UnicodeDecodeError as error:
        raise ItemFailed("item", f"decoder_nonsense: words that are not UTF-8: {error}") from None
    if body["is_part"]:
        sample.sample_id = text_sample_id(sample.item_id, body["first"], body["last"])
    sample.columns.update(
        {name: body.get(name) for name in OF_THE_TEXT}, text_first=body["first"], text_last=body["last"]
    )


def _keyframes(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A sample's column `keyframes`. ItemFailed for a problem that there is not."""
    known = {int(problem): problem.name.lower() for problem in Problem}
    if not set(arrays["problems"].tolist()) <= set(known):
        raise ItemFailed("item", "decoder_nonsense: a key frame with an unknown problem")
    names = {"time_s": "times", "scene_start_s": "scene_starts", "scene_end_s": "scene_ends"}
    names |= {name: name for name in ("sharpness", "luma", "difference")}
    columns = {field: arrays[name].tolist() for field, name in names.items()}
    problems = [known[value] if value else None for value in arrays["problems"].tolist()]
    return [dict(zip([*names, "problem"], row, strict=True)) for row in zip(*columns.values(), problems, strict=True)]


def _sample(item: Mapping[str, Any], alt: str | None, body: Mapping[str, Any], frames: Frames) -> Sample:
    start, end = body["start_s"], body["end_s"]
    if end < start:
        raise ItemFailed("item", f"decoder_nonsense: a sample from {start:g} to {end:g} s")
    identity = sample_id(item["item_id"], start, end)
    size = (body["width"], body["height"], body["fps"])
    kind = body.get("kind") or item["kind"]  # an animation is an image's file and may be a video
    sample = Sample(identity, item["item_id"], kind, start, end, *size, frames, alt=alt)
    sample.columns.update({"unit": item["unit"], **{name: body.get(name) for name in (*DAMAGE, *OF_THE_SCENE)}})
    return sample
