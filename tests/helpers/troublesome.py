"""Sources of captions that raise at one sample, each in its own way."""

import io
from dataclasses import dataclass

from PIL import Image

from reelmill.curation.captions.contract import Answer, Captioner, ModelCaptioner, Reply


class Plain(Captioner):
    """Writes captions; raises at `i1.jpg`, and gives what is no text for `i2.jpg`."""

    def caption(self, row):
        if row["uri"] == "i1.jpg":
            raise KeyError("no such word: \ud800")
        return {"i2.jpg": 7, "i3.jpg": "half \ud800 a character"}.get(row["uri"], "A texture drifts slowly by.")


class Model(ModelCaptioner):
    """Answers a batch at once; `i1.jpg` in it makes the whole batch fail, and `i2.jpg` is answered with a number."""

    @dataclass
    class Config:
        model: str = ""

    def ask(self, questions):
        batch = list(questions)
        if any(question.row["uri"] == "i1.jpg" for question in batch):
            raise RuntimeError("a prompt of 9,000 tokens is too long")
        for question in batch:
            assert all(Image.open(io.BytesIO(jpeg)).width for part in question.parts for jpeg in part)
            text = 7 if question.row["uri"] == "i2.jpg" else "A texture that does not move."
            yield Reply(question, [Answer(text, False)])
