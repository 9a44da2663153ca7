"""Captions by a model of our own, such as one of recipe `captioner`, in the worker's process.

It is asked as it was trained (`caption export`, `chat import`): the frames, then the prompt, in the chat template.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from reelmill.config import at_least
from reelmill.curation.captions.config import CheckpointConfig
from reelmill.curation.captions.contract import Answer, AnswerSettings, ModelCaptioner, Question, Reply, Resources
from reelmill.curation.pictures import size_within
from reelmill.eval.generation import Request, SamplingParams, Studio, TokenSampling, chat_request, continuations
from reelmill.tokenize.documents import Visual


class CheckpointCaptioner(ModelCaptioner):
    """Asks a model of ours that is loaded here; the samples of a task decode together."""

    Config = CheckpointConfig

    def check(self, table: str) -> None:
        """Numbers of workers, rows and pixels."""
        at_least(table, self.config, workers=1, rows=1)
        at_least(f"{table}.pictures", self.config.pictures, least=1, most=self.config.pictures.least)

    def resources(self) -> Resources:
        """Workers of its own, on a share of a GPU each."""
        return Resources(self.config.workers, self.config.gpus)

    def setup(self, settings: AnswerSettings) -> None:
        """Load model and vision tokenizer. Raises DataError if the folder is no model."""
        self._studio = Studio.open(Path(self.config.model), self.config.tokenizer or None)
        self._max_tokens = settings.max_tokens
        self._sampling = SamplingParams(text=TokenSampling(temperature=settings.temperature))

    def ask(self, questions: Iterator[Question]) -> Iterable[Reply]:
        """All questions in one pass of the engine."""
        studio, batch = self._studio, list(questions)
        requests = [request for question in batch for request in self._requests(question)]
        sampled = iter(continuations(studio.model, studio.vocab, requests, rows=self.config.rows))
        for question in batch:
            answers = []
            for _ in question.parts:
                ids = next(sampled)
                text = studio.vocab.tokenizer.decode(ids[ids < studio.vocab.text_size].tolist())
                answers.append(Answer(text, cut_off=ids[-1] != studio.vocab.eos))
            yield Reply(question, answers)

    def _requests(self, question: Question) -> list[Request]:
        """What is generated for each part of a sample."""
        shown = [[self._visual(frame) for frame in part] for part in question.parts]
        return [
            chat_request(self._studio.grammar, [*part, question.prompt], self._max_tokens, sampling=self._sampling)
            for part in shown
        ]

    def _visual(self, jpeg: bytes) -> Visual:
        """A frame's codes, at the size at which pictures were shown in training."""
        vision = self._studio.vision
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            h, w = size_within(image.height, image.width, self.config.pictures, vision.spatial)
            frame = np.asarray(image.convert("RGB").resize((w, h), Image.Resampling.BICUBIC))
        return Visual(vision.encode_image(frame))
