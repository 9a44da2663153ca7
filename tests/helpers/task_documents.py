"""Imports of data for Emu3.5's tasks as tests make them, and what stands in their documents."""

import numpy as np
from PIL import Image
from tiny_server import frames_tokenizer

from reelmill.curation.pictures import PixelBounds
from reelmill.eval.generation.media_files import write_mp4
from reelmill.pipelines.imports.chat import ChatImport, import_chats
from reelmill.tokenize.documents import parse, passages
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus

VOCAB = Vocabulary("bytes", 32, EMU3_5)
TOKENIZER = frames_tokenizer()
RED, BLUE = (200, 30, 30), (30, 30, 200)


def chat_import(folder):
    """An import of pictures under a folder, which gets a red and a blue one."""
    Image.new("RGB", (16, 12), RED).save(folder / "red.png")
    Image.new("RGB", (16, 12), BLUE).save(folder / "blue.png")
    return ChatImport(folder, TOKENIZER, "tiny-frames", VOCAB, PixelBounds(16 * 12, 16 * 12), every=0.5)


def said(source, out, how):
    """Of each document what stands in it, pictures as their size, and what of it is the answer."""
    import_chats(source, out, how, say=lambda _: None)
    corpus = Corpus([out], "default", DataConfig(heldout=0.0))
    found = []
    for tokens in corpus.read(np.arange(len(corpus))):
        document = parse(VOCAB, tokens)
        texts = [(p.text or f"{p.block.header.h}*{p.block.header.w}", p.in_answer) for p in passages(document)]
        found.append(("".join(t for t, inside in texts if not inside), [t for t, inside in texts if inside]))
    return found


def film(path, count, fps=8.0):
    """A video that brightens."""
    frames = np.full((count, 12, 16, 3), 40, dtype=np.uint8)
    frames[:, :, :, 0] += np.arange(count, dtype=np.uint8)[:, None, None] * 10
    write_mp4(frames, fps, path)
