"""The YAML header of the dataset card, which Hugging Face's hub and `datasets` read: tables, licence, size, tags.

Keys and values are those of the hub's documentation (huggingface.co/docs/hub/datasets-cards): `license` is one of its
identifiers, which are SPDX's in lower case for those listed here, `other` or `unknown`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARK = "# Written by reelmill. Take this line out to keep a card of your own: `curate` leaves such a file alone."
TABLES = ("samples", "items", "captions", "verdicts", "failures")
LICENCES = {
    "0bsd", "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
    "bsl-1.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "ecl-2.0", "epl-1.0",
    "epl-2.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0",
    "odbl", "odc-by", "ofl-1.1", "pddl", "unlicense", "wtfpl", "zlib",
    *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
    *(f"cc-by-sa-{version}" for version in ("3.0", "4.0")),
    *(f"cc-by-nc-{version}" for version in ("2.0", "3.0", "4.0")),
    *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *(f"cc-by-nc-sa-{version}" for version in ("2.0", "3.0", "4.0")),
}  # fmt: skip
_SIZES = [
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
    (10_000_000_000, "1B<n<10B"), (100_000_000_000, "10B<n<100B"), (1_000_000_000_000, "100B<n<1T"),
]  # fmt: skip
_TASKS = {"video": "text-to-video", "image": "text-to-image", "text": "text-generation"}


def header(root: Path, name: str, fingerprint: str, found: Mapping[str, Any]) -> str:
    """The header of the run folder `root`, called `name`.

    `found` are `gather.numbers`, tokens those under `fingerprint`.
    """
    kinds = [str(row["name"]) for row in found["tokens"]["kind"]]
    licences = _licences(str(row["name"]) for row in found["tokens"]["licence"])
    size = next((name for bound, name in _SIZES if found["totals"]["documents"] < bound), "n>1T")
    lines = [
        "---",
        MARK,
        f"pretty_name: {json.dumps(name)}",
        f"license: {json.dumps(licences[0] if len(licences) == 1 else licences)}",
        f"size_categories: {json.dumps([size])}",
        f"task_categories: {json.dumps([_TASKS[kind] for kind in _TASKS if kind in kinds])}",
        f"tags: {json.dumps(['reelmill', 'vision-tokens', *sorted(kinds)])}",
        "configs:",
    ]
    configs = _configs(root, fingerprint)
    for table, files in configs.items():
        lines += [f"- config_name: {json.dumps(table)}", f"  data_files: {json.dumps(files)}"]
        lines += ["  default: true"] if table == next(iter(configs)) else []
    return "\n".join([*lines, "---"]) + "\n"


def _configs(root: Path, fingerprint: str) -> dict[str, str]:
    """Name to glob of each table that has rows, the run's own documents first; other tokenizations by their digits."""
    there = sorted({path.parent.name for path in (root / "tokens").glob("*/unit-*.parquet")})
    there.sort(key=lambda name: name != fingerprint[:12])
    found = {}
    for name in there:
        own = name == fingerprint[:12] or len(there) == 1
        found["tokens" if own else f"tokens-{name}"] = f"tokens/{name}/unit-*.parquet"
    return found | {table: f"{table}/*.parquet" for table in TABLES if any((root / table).glob("*.parquet"))}


def _licences(stated: Any) -> list[str]:
    """The hub's identifiers of what the documents' sidecars state; `other` for any that has none."""
    names = {name.strip().lower().replace(" ", "-") for name in stated}
    if names <= {"(none-stated)"}:
        return ["unknown"]
    return sorted(names) if names <= LICENCES else ["other"]
