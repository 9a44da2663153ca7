"""Prompts from files and from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from reelmill.errors import DataError

LONGEST_PROMPT = 32_000
"""Characters. OpenAI's API for images has the same bound."""


def read_prompts(file: Path) -> list[str]:
    """Read prompts: one on each line, or the field `prompt` of each line of a `.jsonl`. Blank lines are skipped.

    Raises DataError for a file that cannot be read, and for a line without a prompt, which it names.
    """
    return list(_prompts(file))


def check_text(text: str, where: str) -> str:
    """`text`, if it is UTF-8, not too long and without NUL. Raises DataError, naming `where` it stands, if not."""
    if len(text) > LONGEST_PROMPT:
        raise DataError(f"{where} has {len(text):,} characters; the maximum is {LONGEST_PROMPT:,}")
    if "\0" in text:
        raise DataError(f"{where} holds a NUL character, which no text does; write it in UTF-8")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} is not UTF-8: character {error.start + 1} is {ascii(text[error.start])[1:-1]}; write it in UTF-8"
        ) from None
    return text


def _prompts(file: Path) -> Iterator[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the prompts in {file} cannot be read ({error}); give a text file in UTF-8") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file}, line {number}"
            prompt = _prompt_field(line, where) if file.suffix == ".jsonl" else line
            yield check_text(prompt, where).strip()


def _prompt_field(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str) or not row["prompt"].strip():
        raise DataError(f'{where} has no prompt; write {{"prompt": "a windmill on a hill"}}')
    text: str = row["prompt"]
    return text
