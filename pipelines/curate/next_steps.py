"""The commands to run after a curation, such as work on what it made."""

from __future__ import annotations

import json
import shlex
from pathlib import Path


def next_commands(out: Path) -> list[str]:
    """Commands over a run folder, ready to be pasted: what is in it, whether it is sound, how to train on it."""
    folder = shlex.quote(str(out))
    commands = [
        f'reelmill sql {folder} "SELECT uri, start_s, status, rule, caption FROM samples"',
        f"reelmill verify {folder}",
    ]
    tokenizations = {path.parent.name for path in (out / "tokens").glob("*/unit-*.parquet")}
    facts = out / "run.json"
    fingerprint = json.loads(facts.read_text())["tokens_fingerprint"][:12] if facts.is_file() else ""
    if fingerprint not in tokenizations:
        return commands
    from reelmill.train.fitting import fitting  # brings torch

    name, *settings = fitting([out], fingerprint=fingerprint).words
    if len(tokenizations) > 1:
        settings += ["--set", f"data.fingerprint={fingerprint}"]
    return [*commands, " ".join(["reelmill train", name, "--data", folder, *map(shlex.quote, settings)])]
