"""Small models served on a free port: one of random weights, and one whose next token follows from the last alone."""

import contextlib
import threading

import torch
from web_server import running

from reelmill.eval.generation import Engine, Studio, engine_thread
from reelmill.pipelines.serve.routes import serve_app
from reelmill.pipelines.serve.served_model import ServeConfig, served_model
from reelmill.pipelines.web import Access, listen
from reelmill.tokenize.vision import VisionTokenizer, load
from reelmill.tokenize.vision.architectures import build
from reelmill.tokenize.vision.ibq import IBQConfig
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.model import Decoder, ModelConfig

VOCAB = Vocabulary("bytes", 4096)
SIZES = {"vocab_size": VOCAB.size, "hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "mlp": 24}


def random_studio(vision=None):
    """With Emu3's layout and reelmill-tok-xs, or with a tokenizer and its layout."""
    vision = vision or load("reelmill-tok-xs")
    vocab = Vocabulary("bytes", vision.codes, vision.layout)
    torch.manual_seed(0)
    model = Decoder(ModelConfig(**{**SIZES, "vocab_size": vocab.size})).eval().requires_grad_(False)
    return Studio(model, vocab, vision)


def frames_tokenizer():
    """A small tokenizer of Emu3.5's kind: no time axis, 4x4 pixels a code."""
    torch.manual_seed(0)
    config = IBQConfig(
        channels=8, channel_multipliers=(1, 1, 1), res_blocks=1, attention_levels=(), z_channels=4, embed_dim=4,
        norm_groups=4, codes=32,
    )  # fmt: skip
    return VisionTokenizer(build(config), "tiny-frames")


def chained_studio(follows, vision=None):
    """`follows`: which ids follow an id, the likeliest first, where the grammar allows them."""
    studio = random_studio(vision)
    for parameter in studio.model.parameters():
        if parameter.ndim > 1:
            parameter.zero_()
    for place, (token, nexts) in enumerate(follows.items()):
        studio.model.embed_tokens.weight[token, place] = 1.0
        for rank, following in enumerate(nexts):
            studio.model.lm_head.weight[following, place] = 10.0 - rank
    return studio


class Gate:
    """Holds the steps of engines back; `allow` lets some pass.

    It opens for good at the end of its `with` block: a test that fails there has no answer left to wait for.
    """

    def __init__(self):
        self._steps = threading.Semaphore(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open()

    def allow(self, steps):
        self._steps.release(steps)

    def open(self):
        self._steps.release(10**6)  # more than anything here takes

    def wait(self):
        self._steps.acquire(timeout=60)


def gated_steps(monkeypatch):
    """The gate of all engines that are made from now on."""
    gate = Gate()

    class Gated(Engine):
        def step(self):
            gate.wait()
            return super().step()

    monkeypatch.setattr(engine_thread, "Engine", Gated)
    return gate


@contextlib.contextmanager
def served(studio, out, token=None, training=None, **settings):
    """Yields (url, the served model)."""
    config = ServeConfig(**{"area": 64 * 64, "rows": 4, "queue": 64, "out": out, **settings})
    with served_model(studio, "tiny", "runs/tiny", config, training) as model:
        listener, _ = listen("127.0.0.1", 0)
        with running(serve_app(model, Access(token)), listener) as url:
            yield url, model
