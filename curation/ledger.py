"""The ledger's tables: ids and schemas.

`docs/formats.md` explains every column. Every run folder has the columns named here; a recipe's scorers add theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pyarrow as pa

from reelmill.curation.interfaces import ColumnType

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
}

PLAN = pa.schema(
    [
        ("unit", pa.int32()),
        ("position", pa.int32()),
        ("item_id", pa.string()),
        ("uri", pa.string()),
        ("kind", pa.string()),
        ("dump", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("json_path", pa.string()),
        ("json_offset", pa.int64()),
        ("json_size", pa.int64()),
        ("text_path", pa.string()),
        ("text_offset", pa.int64()),
        ("text_size", pa.int64()),
        ("problem", pa.string()),
        ("forgotten_sha256", pa.string()),
        ("member", pa.int64()),
        ("known", pa.string()),
        ("subtitles_path", pa.string()),
        ("subtitles_offset", pa.int64()),
        ("subtitles_size", pa.int64()),
        ("url", pa.string()),
    ]
)
FORGOTTEN = "forgotten: "
"""How the `problem` of a forgotten item begins, in the plan and, as `reason`, in `items`."""
PLAN_SINCE = ("forgotten_sha256", "member", "known", "subtitles_path", "subtitles_offset", "subtitles_size", "url")
"""Columns that the plans of earlier versions lack, in which they are NULL."""

_COLOUR_AND_CLOCK = [
    ("transfer", pa.string()),
    ("primaries", pa.string()),
    ("colour_range", pa.string()),
    ("bit_depth", pa.int32()),
    ("interlaced", pa.bool_()),
    ("clock_steps", pa.int32()),
    ("steadiness", pa.float64()),
]
"""What an item's file says of its colors and its clock; samples have them too, so that rules can judge by them."""
OF_THE_ITEM = tuple(name for name, _ in _COLOUR_AND_CLOCK)

DAMAGE: dict[str, ColumnType] = {
    "damaged_frames": "BIGINT",
    "missing_frames": "BIGINT",
    "impossible_colours": "DOUBLE",
}
"""Columns of samples: what the expander found damaged in their span."""

OF_THE_SCENE: dict[str, ColumnType] = {
    "scene": "BIGINT",
    "trim_start_s": "DOUBLE",
    "trim_end_s": "DOUBLE",
    "frozen_share": "DOUBLE",
}
"""Columns of samples of videos: the scene that a clip is of, what is left out of it, what of the clip stands still.
NULL in runs of earlier versions."""

OF_THE_TEXT: dict[str, ColumnType] = {
    "text_first": "BIGINT",
    "text_last": "BIGINT",
    "encoding_from": "VARCHAR",
    "repaired": "BIGINT",
    "masked_mails": "BIGINT",
    "masked_phones": "BIGINT",
    "masked_ips": "BIGINT",
    "masked_keys": "BIGINT",
    "boilerplate": "DOUBLE",
    "n_images": "BIGINT",
}
"""Columns of samples that are texts: which characters of the cleaned text they are, and what was done to it. NULL in
runs of earlier versions."""

PAGE_IMAGE = pa.struct([("position", pa.int64()), ("url", pa.string()), ("alt", pa.string())])
"""An image of a page: characters of its main text before it, its address, its alternative text."""

ITEMS = pa.schema(
    [
        ("unit", pa.int32()),
        ("item_id", pa.string()),
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("kind", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("reason_class", pa.string()),
        ("n_samples", pa.int32()),
        ("bytes", pa.int64()),
        ("duration_s", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("codec", pa.string()),
        ("frames", pa.int64()),
        ("stream", pa.int32()),
        ("video_streams", pa.int32()),
        *_COLOUR_AND_CLOCK,
        ("errors", pa.int64()),
        ("damage", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("licence_from", pa.string()),
        ("copyright", pa.string()),
        ("c2pa", pa.bool_()),
        ("url", pa.string()),
        ("page_url", pa.string()),
        ("crawled", pa.string()),
        ("alt", pa.string()),
        ("meta", pa.string()),
        ("images", pa.list_(PAGE_IMAGE)),
        ("sidecar_problem", pa.string()),
        ("mtime_ns", pa.int64()),
        ("head_sha256", pa.string()),
        ("score_fingerprint", pa.string()),
    ]
)

CONTRACT_SCORES: dict[str, ColumnType] = {
    "text_area": "DOUBLE",
    "text_boxes": "DOUBLE",
    "motion_score": "DOUBLE",
    "motion_dis": "DOUBLE",
    "motion_raft": "DOUBLE",
    "motion_jitter": "DOUBLE",
    "colourfulness": "DOUBLE",
    "quality_score": "DOUBLE",
    "aesthetic_score": "DOUBLE",
}
"""Score columns that `samples` always has; NULL where a recipe has no scorer for one."""

OF_THE_SOUND: dict[str, ColumnType] = {
    "loudness": "DOUBLE",
    "silence_share": "DOUBLE",
    "speech_share": "DOUBLE",
    "other_share": "DOUBLE",
    "n_words": "BIGINT",
    "words_per_s": "DOUBLE",
    "language": "VARCHAR",
    "words_repeated": "DOUBLE",
    "words_entropy": "DOUBLE",
    "speech_perplexity": "DOUBLE",
}
"""Columns that the view `samples` takes from `audio` and `transcripts`: rules may judge by them. NULL where no sound
was measured, or none transcribed."""

OF_THE_KEYFRAMES: dict[str, ColumnType] = {"keyframes_repeated": "DOUBLE", "keyframes_elsewhere": "DOUBLE"}
"""Columns that the view `samples` takes from `alike`: shares of a narrated video's key frames. NULL where they have no
hashes."""
OF_THE_JUDGES: dict[str, ColumnType] = {
    "speech_score": "DOUBLE",
    "talking_head": "DOUBLE",
    "frames_score": "DOUBLE",
    "speech_agreement": "DOUBLE",
    "text_perplexity": "DOUBLE",
}
"""Columns that the view `samples` takes from `judgements`. NULL where no judge was asked, or none gave a value."""

KEYFRAME = pa.struct(
    [
        ("time_s", pa.float64()),
        ("scene_start_s", pa.float64()),
        ("scene_end_s", pa.float64()),
        ("sharpness", pa.float64()),
        ("luma", pa.float64()),
        ("difference", pa.float64()),
        ("problem", pa.string()),
    ]
)

_SAMPLE_FACTS = [
    ("unit", pa.int32()),
    ("sample_id", pa.string()),
    ("item_id", pa.string()),
    ("kind", pa.string()),
    ("start_s", pa.float64()),
    ("end_s", pa.float64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("fps", pa.float64()),
    *_COLOUR_AND_CLOCK,
    ("n_frames", pa.int32()),
    *((name, ARROW_TYPES[kind]) for name, kind in {**DAMAGE, **OF_THE_SCENE}.items()),
    *((name, ARROW_TYPES[kind]) for name, kind in OF_THE_TEXT.items()),
    ("keyframes", pa.list_(KEYFRAME)),
    ("span_alt", pa.string()),
    ("skipped", pa.string()),
    ("score_error", pa.string()),
]

FETCHES = pa.schema(
    [
        ("unit", pa.int32()),
        ("item_id", pa.string()),
        ("url", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("http_status", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("seconds", pa.float64()),
        ("attempts", pa.int32()),
        ("kind", pa.string()),
        ("tar", pa.string()),
        ("offset", pa.int64()),
        ("final_url", pa.string()),
        ("content_type", pa.string()),
        ("etag", pa.string()),
        ("last_modified", pa.string()),
        ("robots_tag", pa.string()),
        ("tdm_reservation", pa.string()),
        ("licence", pa.string()),
        ("fetched", pa.timestamp("us", tz="UTC")),
    ]
)
"""One row per item that a URL table names: what became of its address, and in which tar its bytes lie."""

CAPTIONS = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("caption", pa.string()),
        ("caption_source", pa.string()),
        ("model", pa.string()),
        ("language", pa.string()),
        ("problem", pa.string()),
        ("parts", pa.int32()),
        ("created", pa.timestamp("us", tz="UTC")),
        ("words", pa.float64()),
        ("distinct_words", pa.float64()),
        ("repeated_trigrams", pa.float64()),
        ("alt_overlap", pa.float64()),
    ]
)
"""One row per sample, source and model; `problem` says why a caption is junk."""

SPAN = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())])

AUDIO = pa.schema(
    [
        ("unit", pa.int32()),
        ("item_id", pa.string()),
        ("sha256", pa.string()),
        ("tracks", pa.int32()),
        ("stream", pa.int32()),
        ("codec", pa.string()),
        ("sample_rate", pa.int32()),
        ("channels", pa.int32()),
        ("tagged_language", pa.string()),
        ("duration_s", pa.float64()),
        ("loudness", pa.float64()),
        ("silence_share", pa.float64()),
        ("speech_share", pa.float64()),
        ("other_share", pa.float64()),
        ("speech", pa.list_(SPAN)),
        ("problem", pa.string()),
        ("problem_class", pa.string()),
        ("fingerprint", pa.string()),
    ]
)
"""One row per video and per file with sound alone: what its sound is. `problem` says why it could not be decoded."""

WORD = pa.struct(
    [("text", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64()), ("probability", pa.float64())]
)

TRANSCRIPTS = pa.schema(
    [
        ("unit", pa.int32()),
        ("item_id", pa.string()),
        ("sha256", pa.string()),
        ("segment", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("source", pa.string()),
        ("model", pa.string()),
        ("problem", pa.string()),
        ("no_speech", pa.float64()),
        ("logprob", pa.float64()),
        ("words", pa.list_(WORD)),
        ("created", pa.timestamp("us", tz="UTC")),
    ]
)
"""What was said, a row for each segment; an item of which a source has nothing has one row without text."""

ANNOTATIONS = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("item_id", pa.string()),
        ("kind", pa.string()),
        ("part", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("model", pa.string()),
        ("problem", pa.string()),
        ("basis", pa.string()),
        ("fingerprint", pa.string()),
        ("created", pa.timestamp("us", tz="UTC")),
    ]
)
"""What models say of a narrated sample: `segment`, `scene` and `summary`; `problem` says why one is junk."""

JUDGEMENTS = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("item_id", pa.string()),
        ("judge", pa.string()),
        ("value", pa.float64()),
        ("text", pa.string()),
        ("model", pa.string()),
        ("problem", pa.string()),
        ("basis", pa.string()),
        ("fingerprint", pa.string()),
        ("created", pa.timestamp("us", tz="UTC")),
    ]
)
"""What models judge of a narrated sample: `speech`, `talking_head`, `frames`, `agreement` and `perplexity`; `problem`
says why there is no value."""

FAILURES = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("stage", pa.string()),
        ("fingerprint", pa.string()),
        ("reason", pa.string()),
        ("reason_class", pa.string()),
    ]
)
"""Kept samples that a later stage could not use."""

TIMINGS = pa.schema(
    [
        ("unit", pa.int32()),
        ("move", pa.string()),
        ("stage", pa.string()),
        ("items", pa.int64()),
        ("media_s", pa.float64()),
        ("cpu_s", pa.float64()),
    ]
)
"""CPU seconds that a worker spent on a unit: `move` is the stage of the pipeline, `stage` a part of its work."""

VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("status", pa.string()),
        ("stage", pa.string()),
        ("rule", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("duplicate_of", pa.string()),
        ("duplicate_cluster", pa.string()),
        ("duplicate_similarity", pa.float64()),
        ("duplicate_method", pa.string()),
        ("duplicate_reason", pa.string()),
        ("second_chance", pa.string()),
    ]
)

DUPLICATES = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("other_unit", pa.int32()),
        ("other_id", pa.string()),
        ("similarity", pa.float64()),
        ("method", pa.string()),
        ("other_run", pa.string()),
    ]
)
"""Pairs of samples of two items that are copies, the other one in this or another run folder; which of them stays is
for the verdicts to say."""

ALIKE = pa.schema(
    [
        ("unit", pa.int32()),
        ("sample_id", pa.string()),
        ("item_id", pa.string()),
        ("time_s", pa.float64()),
        ("other_unit", pa.int32()),
        ("other_item_id", pa.string()),
        ("other_time_s", pa.float64()),
        ("bits", pa.int32()),
    ]
)
"""Key frames that look like an earlier one of their video, or like one of another video."""


RESERVED = {
    *(name for name, _ in _SAMPLE_FACTS),
    *VERDICTS.names,
    *OF_THE_SOUND,
    *OF_THE_KEYFRAMES,
    *OF_THE_JUDGES,
    *(
        "vector",
        "caption",
        "caption_source",
        "motion_score",
        "failed",
        "selection",
        "uri",
        "source",
        "licence",
        "url",
        "alt",
    ),
}
"""Names that a scorer may not give to a column: the views have them already."""


def samples_schema(score_columns: Mapping[str, ColumnType]) -> pa.Schema:
    """Schema of `samples/`: facts, the scores of shipped scorers, then a recipe's own."""
    columns = {**CONTRACT_SCORES, **score_columns}
    return pa.schema([*_SAMPLE_FACTS, *((name, ARROW_TYPES[kind]) for name, kind in columns.items())])


def judged_schema(score_columns: Mapping[str, ColumnType]) -> pa.Schema:
    """The columns that rules may judge by: those of `samples/`, and what later stages add to the view."""
    later = [(name, ARROW_TYPES[kind]) for name, kind in {**OF_THE_SOUND, **OF_THE_KEYFRAMES, **OF_THE_JUDGES}.items()]
    return pa.schema([*samples_schema(score_columns), *later])


def is_forgotten(problem: str | None) -> bool:
    """Whether the plan's `problem` is a tombstone."""
    return (problem or "").startswith(FORGOTTEN)


def item_id(uri: str) -> str:
    """32 hex digits of SHA-256 over the uri within the dump."""
    return hashlib.sha256(uri.encode("utf-8")).hexdigest()[:32]


def sample_id(item: str, start_s: float, end_s: float) -> str:
    """32 hex digits over the item's id and the span, to the microsecond."""
    return hashlib.sha256(f"{item}|{start_s:.6f}|{end_s:.6f}".encode()).hexdigest()[:32]


def text_sample_id(item: str, first: int, last: int) -> str:
    """32 hex digits over the item's id and the characters of a part of its text."""
    return hashlib.sha256(f"{item}|text|{first}|{last}".encode()).hexdigest()[:32]
