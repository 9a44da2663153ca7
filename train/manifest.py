"""SHA-256 of each file of a checkpoint, written last, so that damage is found before training continues from it."""

from __future__ import annotations

import json
from pathlib import Path

from reelmill.errors import DataError
from reelmill.files import sha256

MANIFEST = "manifest.json"


def write_manifest(checkpoint: Path) -> None:
    """Write `manifest.json`: the SHA-256 of every file that the checkpoint has now."""
    (checkpoint / MANIFEST).write_text(
        json.dumps({str(path.relative_to(checkpoint)): sha256(path) for path in _files(checkpoint)}, indent=2),
        encoding="utf-8",
    )


def has_manifest(checkpoint: Path) -> bool:
    """Whether the checkpoint has a manifest; one of an earlier version does not."""
    return (checkpoint / MANIFEST).is_file()


def hashed_files(checkpoint: Path) -> dict[str, str]:
    """SHA-256 by name of the files that were written. DataError where the manifest cannot be read."""
    if not has_manifest(checkpoint):
        return {}
    try:
        return {str(name): str(known) for name, known in json.loads((checkpoint / MANIFEST).read_bytes()).items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{checkpoint / MANIFEST} is not readable ({error}); use another checkpoint.") from error


def damage(checkpoint: Path, *parts: str) -> list[str]:
    """The problems of a checkpoint's files, or only of those below `parts`.

    Without a manifest none are known.
    """
    try:
        written = hashed_files(checkpoint)
    except DataError:
        return [f"{MANIFEST} is not readable"]
    wanted = {name: known for name, known in written.items() if not parts or Path(name).parts[0] in parts}
    return [problem for name, known in sorted(wanted.items()) if (problem := _problem(checkpoint, name, known))]


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST)


def _problem(checkpoint: Path, name: str, known: str) -> str:
    path = checkpoint / name
    if not path.is_file():
        return f"{name} is gone"
    return "" if sha256(path) == known else f"{name} has other bytes than were written"
