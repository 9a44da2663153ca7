"""`reelmill prefer vote`: a page on which people judge candidates side by side, without knowing their checkpoints."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from reelmill.errors import ConfigError, DataError
from reelmill.eval.preference import QUESTIONS, Candidates, Tally, VoteFile, matches, read_vote, tallies, voter_name
from reelmill.pipelines.web import Access, HttpError, read_json, web_app

MAX_BODY = 1 << 16
MAX_VOTERS = 1000
_FILES = {
    "/": ("vote.html", "text/html"),
    "/vote.css": ("vote.css", "text/css"),
    "/vote.js": ("vote.js", "text/javascript"),
}
_MODES = {"rate": "rating", "compare": "comparison"}


class Poll:
    """The tasks of the voters, and their votes.

    `mode` is `rate` (give each candidate of a prompt 1 to 5) or `compare` (two checkpoints' candidates of one number).
    Raises ConfigError for another mode, or if the candidates make no task in it.
    """

    def __init__(self, candidates: Candidates, mode: str) -> None:
        if mode not in _MODES:
            raise ConfigError(
                f"--ask is {mode!r}; it must be rate (each candidate of a prompt) or compare (two checkpoints)"
            )
        self.candidates, self.mode = candidates, mode
        self.tasks: list[list[str]] = []
        for prompt_id, prompt_candidates in candidates.by_prompt.items():
            groups = [prompt_candidates] if mode == "rate" else matches(candidates, prompt_id)
            self.tasks += [[candidate.id for candidate in group] for group in groups if len(group) > 1]
        if not self.tasks:
            raise ConfigError(
                f"nothing in {candidates.folder} can be judged side by side: it has {len(candidates)} candidates from "
                f"{len(candidates.checkpoints)} checkpoint(s). Sample several for each prompt; --ask compare needs two "
                "checkpoints."
            )
        self._number = {frozenset(task): number for number, task in enumerate(self.tasks)}
        self._file = VoteFile(candidates.folder)
        self._lock = threading.Lock()
        votes = self._file.read(candidates)
        self._tallies = tallies(votes)
        self._kinds = {vote.voter: vote.kind for vote in votes}
        self._voters = set(self._kinds)

    def task(self, voter: str, number: int | None) -> dict[str, Any]:
        """A task as the voter sees it, in the voter's own order; without a number, the first one that is left."""
        if self._kinds.get(voter) == "score":
            raise HttpError(409, f"{voter!r} is the name of a scorer; choose another", param="voter")
        done = [self._answers(voter, task) for task in self.tasks]
        left = [place for place, answers in enumerate(done) if len(answers) < len(self.tasks[place])]
        progress: dict[str, Any] = {"total": len(self.tasks), "done": len(self.tasks) - len(left)}
        if number is None:
            if not left:
                return {**progress, "number": None}
            number = left[0]
        if not 0 <= number < len(self.tasks):
            raise HttpError(404, f"there is no task {number}; there are {len(self.tasks)} tasks", param="number")
        names = _order(voter, self.tasks[number])
        return {
            **progress,
            "number": number,
            "prompt": self.candidates.by_id[names[0]].prompt,
            "candidates": names,
            "scores": {name: done[number][name] for name in names if name in done[number]},
            "next": next((place for place in left if place > number), None),
        }

    def vote(self, body: dict[str, Any]) -> dict[str, Any]:
        """Store a vote on a task. When this returns it is on the disk. Raises DataError for anything else."""
        given = {key: body.get(key) for key in ("voter", "scores")}
        vote = read_vote({**given, "kind": _MODES[self.mode]}, self.candidates)
        number = self._number.get(frozenset(vote.scores))
        if number is None or any(len(answers) < len(QUESTIONS) for answers in vote.scores.values()):
            raise DataError("a vote must answer both questions about every candidate of one task")
        with self._lock:
            if self._kinds.get(vote.voter) == "score":
                raise HttpError(409, f"{vote.voter!r} is the name of a scorer; choose another", param="voter")
            if vote.voter not in self._voters and len(self._voters) >= MAX_VOTERS:
                raise HttpError(429, f"there are {MAX_VOTERS:,} voters already, the maximum")
            # A repeated vote comes from a browser that did not receive the answer.
            if self._answers(vote.voter, self.tasks[number]) != vote.scores:
                self._file.add([vote])
                self._tallies.setdefault(vote.prompt_id, Tally()).add(vote)
                self._voters.add(vote.voter)
        return {"number": number}

    def _answers(self, voter: str, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """A voter's answers on the candidates of a task, by candidate and question."""
        tally = self._tallies.get(self.candidates.by_id[names[0]].prompt_id, Tally())
        if self.mode == "rate":
            scores = tally.scores.get(voter, {})
            return {name: scores[name] for name in names if len(scores.get(name, ())) == len(QUESTIONS)}
        one, other = names
        answers = {name: tally.outcomes.get(voter, {}).get((min(names), max(names)), {}) for name in names}
        if not all(answers.values()):
            return {}
        return {name: tally.between(voter, name, other if name == one else one) for name in names}


def vote_app(poll: Poll, access: Access) -> ASGIApp:
    """The page and its endpoints."""

    async def page(request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        return Response(files("reelmill.pipelines.prefer").joinpath(name).read_bytes(), media_type=kind)

    async def about(request: Request) -> Response:
        return JSONResponse({"mode": poll.mode, "tasks": len(poll.tasks)})

    async def task(request: Request) -> Response:
        number = request.query_params.get("number")
        if number is not None and not (number.isascii() and number.isdigit() and len(number) < 10):
            raise HttpError(400, "number must be the number of a task", param="number")
        voter = voter_name(request.query_params.get("voter"))
        return JSONResponse(await run_in_threadpool(poll.task, voter, None if number is None else int(number)))

    async def vote(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(poll.vote, await read_json(request)), 201)

    async def picture(request: Request) -> Response:
        candidate_id = request.path_params["candidate_id"]
        if candidate_id not in poll.candidates.by_id:
            raise HttpError(404, "there is no such picture")
        data = await run_in_threadpool(poll.candidates.picture(candidate_id).read_bytes)
        # No date and no tag of the file: they would group the pictures by the time when they were made.
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})

    routes = [Route(path, page) for path in _FILES]
    routes += [Route("/poll", about), Route("/task", task), Route("/vote", vote, methods=["POST"])]
    return web_app([*routes, Route("/picture/{candidate_id}.png", picture)], access, max_body=MAX_BODY)


def _order(voter: str, names: Sequence[str]) -> list[str]:
    """The candidates of a task in an order that depends only on the voter and on them."""
    names = sorted(names)
    seed = hashlib.sha256("\0".join((voter, *names)).encode()).digest()
    random.Random(seed).shuffle(names)
    return names
