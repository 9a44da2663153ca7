"""Votes: a file to which lines are only appended. A vote counts once it is on the disk.

    FOLDER/votes.jsonl      one vote per line: one voter on candidates of one prompt

There are three kinds. A `rating` gives each candidate 1 to 5. A `comparison` gives the better one of two candidates 1
and the other 0, or each 0.5 for a tie. A `score` is a number on a scorer's own scale. The latest vote of a voter on the
same candidates counts.

Each line ends with a `check`, which depends on the line and on the check before it: a line that was changed or taken
out is seen. A line without one was written by an earlier version or by hand, and counts as it is.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from reelmill.errors import DataError
from reelmill.eval.preference.candidates import Candidates
from reelmill.files import sync
from reelmill.written_log import note_written

QUESTIONS = ("appeal", "alignment")
"""Emu3's two: visual appeal and prompt alignment (arXiv 2409.18869, section 2.5)."""
KINDS = ("rating", "comparison", "score")
RATINGS = (1, 2, 3, 4, 5)
LONGEST_VOTER = 64
LONGEST_LINE = 1 << 16
LARGEST_SCORE = 1e9
_CHECK = re.compile(rb', "check": "([0-9a-f]{16})"\}$', re.MULTILINE)

Scores = Mapping[str, Mapping[str, float]]
"""Numbers by candidate and question."""


@dataclass(frozen=True)
class Vote:
    """A vote on candidates of one prompt, and its time (ISO 8601, UTC)."""

    voter: str
    kind: str
    prompt_id: str
    scores: Scores
    at: str = field(default="", compare=False)

    def to_json(self) -> str:
        """The line of the file."""
        scores = [{"candidate_id": name, **answers} for name, answers in self.scores.items()]
        row = {"voter": self.voter, "kind": self.kind, "prompt_id": self.prompt_id, "scores": scores, "at": self.at}
        return json.dumps(row, ensure_ascii=False)


def read_vote(row: Any, candidates: Candidates) -> Vote:
    """A vote from parsed JSON: `voter`, `scores` (a list of `candidate_id` with `appeal` and `alignment`) and, unless
    it is a rating, `kind`. Nothing in it is trusted. Raises DataError, which says what is wrong."""
    if not isinstance(row, dict) or not isinstance(row.get("scores"), list):
        raise DataError(
            'a vote is {"voter": NAME, "scores": [{"candidate_id": ID, "appeal": 1..5, "alignment": 1..5}]}'
        )
    unknown = sorted(map(str, row.keys() - {"voter", "kind", "prompt_id", "scores", "at"}))
    if unknown:
        raise DataError(f"unknown fields {unknown} in a vote; it has voter, kind, prompt_id, scores, at")
    kind = row.get("kind", "rating")
    if kind not in KINDS:
        raise DataError(f"kind is {_shown(kind)}; it must be {', '.join(KINDS)}")
    scores = dict(_candidate_scores(one, kind, candidates) for one in row["scores"])
    prompts = {candidates.by_id[name].prompt_id for name in scores}
    if len(prompts) != 1 or len(scores) != len(row["scores"]):
        raise DataError(f"a vote is on different candidates of one prompt; this one has {len(prompts)} prompts")
    (prompt_id,) = prompts
    if row.get("prompt_id", prompt_id) != prompt_id:
        raise DataError(f"prompt_id is {_shown(row['prompt_id'])}; the candidates are of {prompt_id}")
    if kind == "comparison":
        _check_comparison(list(scores.values()))
    return Vote(voter_name(row.get("voter")), kind, prompt_id, scores, _time(row.get("at", "")))


def voter_name(name: Any) -> str:
    """A name as it is stored: one line, without blanks at its ends. Raises DataError for anything else."""
    stripped = name.strip() if isinstance(name, str) else ""
    if not 0 < len(stripped) <= LONGEST_VOTER or not stripped.isprintable():
        raise DataError(f"a voter's name has 1 to {LONGEST_VOTER} printable characters")
    return stripped


class VoteFile:
    """The votes of a folder. Several processes may append to it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / "votes.jsonl"

    def add(self, votes: Sequence[Vote]) -> None:
        """Append votes. When this returns they are on the disk. Votes without a time get one."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        lines = [Vote(v.voter, v.kind, v.prompt_id, v.scores, v.at or now).to_json() for v in votes]
        is_new = not self.path.exists()
        with self.path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # A process that is killed while it writes leaves part of a line, which it has not acknowledged.
            end = _complete_bytes(stream)
            stream.seek(end)
            self._check_rest(stream.read())
            before = _last_check(stream, end)
            stream.truncate(end)
            stream.write(b"".join(_checked(map(str.encode, lines), before)))
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync(self.path.parent)
            note_written(self.path.parent, self.path)

    def read(self, candidates: Candidates) -> list[Vote]:
        """All votes, oldest first. Raises DataError, naming the line, for one that is no vote or has been changed."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        self._check_rest(data[end:])
        lines = data[:end].split(b"\n")
        before = b""
        for number, line in enumerate(lines, 1):
            if found := _CHECK.search(line):
                if found[1] != _check(_CHECK.sub(b"}", line), before):
                    raise self._damaged(f"line {number}")
                before = found[1]
        return list(read_votes(lines, candidates, self.path))

    def _check_rest(self, rest: bytes) -> None:
        """DataError where what follows the last whole line is a whole line too, whose end has been changed."""
        if _CHECK.search(rest[:-1]):
            raise self._damaged("the end of the last line")

    def _damaged(self, where: str) -> DataError:
        return DataError(
            f"{self.path}, {where}: it, or the line before it, is not what was written; put the file back from a copy. "
            "If you have changed it yourself, move it away and read it in again: `reelmill prefer vote FOLDER --from "
            "FILE`."
        )


def _checked(lines: Iterable[bytes], before: bytes) -> Iterable[bytes]:
    """The lines as they are stored, after one with the check `before`."""
    for line in lines:
        before = _check(line, before)
        yield line[:-1] + b', "check": "' + before + b'"}\n'


def _check(line: bytes, before: bytes) -> bytes:
    return hashlib.sha256(before + line).hexdigest()[:16].encode()


def _last_check(stream: BinaryIO, end: int) -> bytes:
    """The last check before the byte `end`; none where no line has one."""
    for begin in dict.fromkeys((max(0, end - 2 * LONGEST_LINE), 0)):
        stream.seek(begin)
        if found := _CHECK.findall(stream.read(end - begin)):
            last: bytes = found[-1]
            return last
    return b""


def read_votes(lines: Iterable[bytes], candidates: Candidates, path: Path) -> Iterable[Vote]:
    """The votes in the lines of a file, whatever their checks; blank lines are skipped.

    Raises DataError, naming the line that is no vote.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if len(line) > LONGEST_LINE:
                raise DataError(f"it has {len(line):,} bytes; a vote has at most {LONGEST_LINE:,}")
            yield read_vote(json.loads(_CHECK.sub(b"}", line)), candidates)
        except (DataError, ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}") from None


def _complete_bytes(stream: BinaryIO) -> int:
    """Bytes up to the end of the last complete line."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - LONGEST_LINE)
        stream.seek(begin)
        found = stream.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _candidate_scores(row: Any, kind: str, candidates: Candidates) -> tuple[str, dict[str, float]]:
    name = row.get("candidate_id") if isinstance(row, dict) else None
    if not isinstance(name, str) or name not in candidates.by_id:
        raise DataError(f"there is no candidate {_shown(name)}")
    scores = {question: row[question] for question in QUESTIONS if row.get(question) is not None}
    unknown = sorted(map(str, row.keys() - {"candidate_id", *QUESTIONS}))
    if unknown or not scores:
        raise DataError(f"candidate {name} has {unknown or 'no score'}; allowed: {' and '.join(QUESTIONS)}")
    for question, score in scores.items():
        if not _is_score(score, kind):
            allowed = {"rating": "1, 2, 3, 4 or 5", "comparison": "0, 0.5 or 1"}.get(
                kind, f"a number of at most {LARGEST_SCORE:g}"
            )
            raise DataError(f"{question} of candidate {name} is {_shown(score)}; a {kind} must be {allowed}")
    return name, {question: float(score) for question, score in scores.items()}


def _is_score(score: Any, kind: str) -> bool:
    if not isinstance(score, int | float) or isinstance(score, bool):
        return False
    if kind == "score":
        return abs(score) <= LARGEST_SCORE  # False for NaN
    return score in (RATINGS if kind == "rating" else (0, 0.5, 1))


def _check_comparison(scores: Sequence[Mapping[str, float]]) -> None:
    if len(scores) != 2 or scores[0].keys() != scores[1].keys():
        raise DataError(f"a comparison is of 2 candidates on the same questions, not of {len(scores)}")
    for question, score in scores[0].items():
        if score + scores[1][question] != 1:
            raise DataError(
                f"a comparison gives 1 and 0, or 0.5 twice; {question} has {score:g}, {scores[1][question]:g}"
            )


def _time(at: Any) -> str:
    try:
        return datetime.datetime.fromisoformat(at).isoformat(timespec="seconds") if at else ""
    except (TypeError, ValueError):
        raise DataError(f"at is {_shown(at)}; it must be a time in ISO 8601") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
