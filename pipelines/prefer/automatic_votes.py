"""Votes that nobody casts on the page: from a file, from CLIP, from image quality, from a model at an endpoint."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reelmill import weights
from reelmill.curation.captions.chat_client import Endpoint, EndpointFailed
from reelmill.curation.captions.config import EndpointConfig
from reelmill.curation.captions.contract import Answer
from reelmill.curation.captions.frames import chat_message, jpeg
from reelmill.curation.scorers.aesthetic import ARCHITECTURE, CLIP_WEIGHTS
from reelmill.curation.scorers.clip import Clip
from reelmill.curation.scorers.image_quality import quality
from reelmill.errors import ConfigError, DataError, MachineError, WeightsError
from reelmill.eval.preference import RATINGS, Candidates, Vote, VoteFile, read_votes
from reelmill.eval.preference.candidates import Candidate

Rgb = npt.NDArray[np.uint8]

PROMPT = """This picture was drawn for the prompt between the lines.
----
{prompt}
----
Judge it by two questions, each from 1 (very bad) to 5 (very good).
appeal: how good does it look, whatever it shows? Composition, detail, light, no defects.
alignment: how well does it show what the prompt asks for? Things, numbers, colours, places, style.
Answer with JSON alone, such as {{"appeal": 3, "alignment": 4}}."""
"""The prompt for a model that judges a candidate, after the picture."""
MAX_TOKENS = 60
JPEG_QUALITY = 95
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


def import_votes(candidates: Candidates, path: Path) -> str:
    """Add the new votes of a `.jsonl` file with lines as in FOLDER/votes.jsonl; returns a summary.

    A line is `{"voter": NAME, "scores": [{"candidate_id": ID, "appeal": 1..5, "alignment": 1..5}, ...]}`. If a line is
    no vote, it raises DataError and adds nothing.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"the votes in {path} cannot be read: {error.strerror}") from None
    given = list(read_votes(lines, candidates, path))
    file = VoteFile(candidates.folder)
    # A vote without a time equals one with the same scores. With a time, the times must be equal too: the same vote
    # given again later counts.
    known = {form for vote in file.read(candidates) for form in (vote.to_json(), _undated(vote))}
    new = [vote for vote in given if vote.to_json() not in known]
    file.add(new)
    return f"{len(new):,} of {len(given):,} votes added, the others were there already"


def scorer_votes(scorer: str, candidates: Candidates, url: str = "", model: str = "") -> Iterator[str]:
    """Let a scorer judge the candidates that it has not judged yet, and store its votes prompt by prompt; yields a
    summary."""
    if scorer == "clip":
        yield from _measure(candidates, f"clip:{ARCHITECTURE}", "alignment", _clip())
    elif scorer == "quality":
        yield from _measure(candidates, "quality", "appeal", lambda image, _: quality(image))
    elif scorer == "endpoint":
        if not (url.startswith(("http://", "https://")) and model):
            raise ConfigError("--scorer endpoint needs --url http://HOST:PORT/v1 and --model NAME")
        yield asyncio.run(_ask_endpoint(candidates, EndpointConfig(url=url, model=model)))
    else:
        raise ConfigError(f"--scorer is {scorer!r}; it must be clip, quality or endpoint")


class ClipSimilarity:
    """Cosine similarity of CLIP's features of a picture and a text, which is truncated to 77 tokens (OpenAI's CLIP)."""

    def __init__(self, architecture: str, checkpoint: Path) -> None:
        self._clip = Clip(architecture, checkpoint)

    def __call__(self, image: Rgb, text: str) -> float:
        """The similarity of an RGB picture, uint8 [H, W, 3], and a text."""
        return float(self._clip.images([image])[0] @ self._clip.text(text))


def parse_judgement(text: str) -> dict[str, float]:
    """The two ratings in a model's answer: a JSON object with `appeal` and `alignment`, whole numbers from 1 to 5.

    It may be in a code fence. Raises ValueError for anything else.
    """
    fenced = _FENCE.fullmatch(text.strip())
    found = json.loads(fenced[1] if fenced else text)
    if not isinstance(found, dict) or found.keys() != {"appeal", "alignment"}:
        raise ValueError("it is no object with appeal and alignment")
    for question, rating in found.items():
        if type(rating) is not int or rating not in RATINGS:
            raise ValueError(f"{question} is no whole number from 1 to 5")
    return {question: float(rating) for question, rating in found.items()}


def _clip() -> ClipSimilarity:
    if importlib.util.find_spec("open_clip") is None:
        raise WeightsError("--scorer clip needs open_clip; run: pip install 'reelmill[aesthetic]'")
    return ClipSimilarity(ARCHITECTURE, weights.path(CLIP_WEIGHTS))


def _measure(candidates: Candidates, voter: str, question: str, measure: Callable[[Rgb, str], float]) -> Iterator[str]:
    file = VoteFile(candidates.folder)
    waiting = _waiting(candidates, voter, file)
    for group in waiting:
        scores = {one.id: {question: measure(_picture(candidates, one), one.prompt)} for one in group}
        file.add([Vote(voter, "score", group[0].prompt_id, scores)])
    yield f"{voter} voted on {question} of {sum(map(len, waiting)):,} candidates"


async def _ask_endpoint(candidates: Candidates, config: EndpointConfig) -> str:
    """Ask an endpoint about the candidates that it has not judged yet. Raises MachineError if answers are missing at
    the end."""
    voter = f"endpoint:{config.model}"[:64]
    file = VoteFile(candidates.folder)
    waiting = _waiting(candidates, voter, file)
    failures: list[str] = []
    judged = 0
    async with Endpoint(config) as endpoint:

        async def judge(one: Candidate) -> dict[str, float] | None:
            picture = jpeg(_picture(candidates, one), JPEG_QUALITY)
            message = chat_message([picture], PROMPT.format(prompt=one.prompt))
            try:
                answer: Answer = await endpoint.ask([message], MAX_TOKENS, 0.0)
                return parse_judgement(answer.text)
            except EndpointFailed as error:
                failures.append(str(error))
            except (ValueError, RecursionError) as error:
                failures.append(f"the answer {answer.text[:80]!r} cannot be used: {error}")
            return None

        for group in waiting:
            answers = await asyncio.gather(*(judge(one) for one in group))
            scores = {one.id: ratings for one, ratings in zip(group, answers, strict=True) if ratings is not None}
            if not scores:  # further requests would probably fail too, and cost time or money
                break
            file.add([Vote(voter, "rating", group[0].prompt_id, scores)])
            judged += len(scores)
    if failures:
        raise MachineError(
            f"{voter} judged {judged:,} of {sum(map(len, waiting)):,} candidates; the first failure: {failures[0]}. "
            "Run the same command again to ask about the others."
        )
    return f"{voter} judged {judged:,} candidates"


def _waiting(candidates: Candidates, voter: str, file: VoteFile) -> list[list[Candidate]]:
    """The candidates that a voter has not judged yet, prompt by prompt."""
    judged = {name for vote in file.read(candidates) if vote.voter == voter for name in vote.scores}
    left = ([one for one in group if one.id not in judged] for group in candidates.by_prompt.values())
    return [group for group in left if group]


def _picture(candidates: Candidates, one: Candidate) -> Rgb:
    with Image.open(io.BytesIO(candidates.picture(one.id).read_bytes()), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


def _undated(vote: Vote) -> str:
    return Vote(vote.voter, vote.kind, vote.prompt_id, vote.scores).to_json()
