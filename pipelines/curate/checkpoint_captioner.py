"""Captions by a captioner of one's own: a checkpoint of recipe `captioner`, in the worker's own process.

It is asked as it was trained (`caption export`, `chat import`): the frames, then the words, in the chat template.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reelmill.curation.captions.chat_client import Answer
from reelmill.curation.pictures import size_within
from reelmill.eval.generation import Request, SamplingParams, Studio, TokenSampling, chat_request, continuations
from reelmill.eval.generation.loading import found_checkpoint
from reelmill.orchestration.model_captions import ModelCaptionWorker, Outcome, Question, answered
from reelmill.tokenize.documents import Visual


class CheckpointWorker(ModelCaptionWorker):
    """Asks a model of ours that is loaded here; the samples of a task decode together."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        own = self._config.checkpoint
        self._studio = Studio.open(found_checkpoint(Path(own.model)), own.tokenizer or None)
        self._sampling = SamplingParams(text=TokenSampling(temperature=self._config.temperature))

    def _ask(self, rows: Sequence[Mapping[str, Any]]) -> Outcome:
        outcome, studio = Outcome(), self._studio
        questions = [question for item in self._items(rows) for question in self._questions(item, outcome)]
        requests = [request for question in questions for request in self._requests(question)]
        drawn = iter(continuations(studio.model, studio.vocab, requests, rows=self._config.checkpoint.rows))
        for question in questions:
            answers = []
            for _ in question.pictures:
                ids = next(drawn)
                words = studio.vocab.tokenizer.decode(ids[ids < studio.vocab.text_size].tolist())
                answers.append(Answer(words, cut_off=ids[-1] != studio.vocab.eos))
            outcome.rows.append(answered(question, answers))
        return outcome

    def _requests(self, question: Question) -> list[Request]:
        """What is drawn for each part of a sample."""
        shown = [[self._visual(picture) for picture in part] for part in question.pictures]
        most = self._config.max_tokens
        return [
            chat_request(self._studio.free, [*part, question.words], most, sampling=self._sampling) for part in shown
        ]

    def _visual(self, jpeg: bytes) -> Visual:
        """A frame's codes, at the size at which pictures were shown in training."""
        vision = self._studio.vision
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            h, w = size_within(image.height, image.width, self._config.checkpoint.pictures, vision.spatial)
            frame = np.asarray(image.convert("RGB").resize((w, h), Image.Resampling.BICUBIC))
        return Visual(vision.encode_image(frame))
