"""Do documents of narrated videos teach which words belong to which picture?

    python bench/narrated_proof.py WORK [--videos 40] [--steps 700]

Rendered how-tos with subtitles: each step shows one scene of the toy world of `scenes.py`, and a sentence in one of
four forms names its color, shape and ground. The steps are drawn at random, so that what was said before tells nothing.
Recipe `emu3_5` makes documents of them (reelmill-tok-xs, 48 x 48 pixels a key frame, bytes as text), and a toy learns
to predict them. On videos that it has not seen, each sentence is scored after its own picture and after that of another
step in its place, all else alike. Printed: nats a sentence of both, of the words that name what is seen, and how often
the own picture makes the sentence likelier.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from scenes import CONFIG, SIDE, TOKENIZER, Scene, named, render, scene

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.sampledump.encode import Encoding, encode
from reelmill.tokenize.shards import read_footer
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.checkpoint import load_decoder
from reelmill.train.model import Decoder
from reelmill.train.run import train

STEP_S, FPS, STEPS, PIXELS = 3.0, 4, 36, 96
UNSEEN = 4
SENTENCES = (
    "Now take {caption}.",
    "Next comes {caption}.",
    "Here you see {caption}.",
    "Put {caption} beside it.",
)
SETTINGS = (
    *("engine.executor=inline", f"tokens.tokenizer={TOKENIZER}", "tokens.text=bytes", f"tokens.area={SIDE * SIDE}"),
    *("tokens.narration.max_tokens=1024", 'transcripts.sources=["subtitles"]', "sound.measure=false"),
    *("rules.resolution.min=64", "rules.quality.min=0.0"),
)
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sentence:
    """A sentence of a document: the document's tokens, where its picture and its words stand, what it says."""

    tokens: Ids
    picture: tuple[int, int]
    words: tuple[int, int]


def how_to(rng: np.random.Generator) -> list[tuple[Scene, str]]:
    """Scenes and what is said of them; two after one another have different grounds, so that there is a cut."""
    steps: list[tuple[Scene, str]] = []
    while len(steps) < STEPS:
        seen = scene(rng)
        if not steps or seen.ground != steps[-1][0].ground:
            steps.append((seen, str(rng.choice(SENTENCES)).format(caption=seen.caption)))
    return steps


def write_video(path: Path, steps: list[tuple[Scene, str]]) -> None:
    """The video, and its subtitles beside it: each sentence in the second half of its step."""

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        for seen, _ in steps:
            yield from [np.ascontiguousarray(render(seen, side=PIXELS))] * int(STEP_S * FPS)

    path.write_bytes(encode(frames(), PIXELS, PIXELS, FPS, Encoding()))
    cues = [
        f"{n + 1}\n{_clock(n * STEP_S + 2.1)} --> {_clock(n * STEP_S + 2.9)}\n{said}\n"
        for n, (_, said) in enumerate(steps)
    ]
    path.with_suffix(".srt").write_text("\n".join(cues))


def curated(work: Path, name: str, videos: int, seed: int) -> Path:
    """The run folder of so many how-tos."""
    dump, out = work / f"{name}-dump", work / name
    dump.mkdir(parents=True, exist_ok=True)
    for number in range(videos):
        if not (dump / f"{number:03}.srt").exists():
            write_video(dump / f"{number:03}.mp4", how_to(np.random.default_rng([seed, number])))
    curate([dump], out, recipes.load("emu3_5", SETTINGS), CurateOptions(), Console(quiet=True))
    return out


def documents(out: Path) -> tuple[list[dict[str, Any]], Vocabulary]:
    """The rows of `tokens`, and their vocabulary."""
    with LedgerQueries(out) as ledger:
        rows = ledger.rows("SELECT uri, part, tokens, blocks FROM tokens ORDER BY uri, part")
    return rows, read_footer(next((out / "tokens").rglob("unit-*.parquet")))[1].vocab


def sentences(rows: list[dict[str, Any]]) -> list[Sentence]:
    """Sentences that follow a picture at once."""
    found = []
    for row in rows:
        tokens = np.array(row["tokens"], np.int64)
        for picture, words in zip(row["blocks"], row["blocks"][1:], strict=False):
            if (picture["kind"], words["kind"]) == ("image", "text"):
                spans = (picture["start"], picture["stop"]), (words["start"], words["stop"])
                found.append(Sentence(tokens, *spans))
    return found


@torch.no_grad()
def losses(model: Decoder, sentence: Sentence, picture: Ids) -> npt.NDArray[np.float64]:
    """Nats of each token of the sentence, with this picture in place of its own."""
    start, stop = sentence.words
    tokens = sentence.tokens[:stop].copy()
    tokens[slice(*sentence.picture)] = picture
    hidden = model(torch.from_numpy(tokens)[None], torch.arange(stop)[None])[0, start - 1 : stop - 1]
    logits = model.lm_head(hidden).double()
    target = torch.from_numpy(tokens[start:stop])
    return torch.nn.functional.cross_entropy(logits, target, reduction="none").numpy()


def measure(model: Decoder, vocab: Vocabulary, found: list[Sentence]) -> None:
    """Print what the sentences cost after their own pictures and after others'."""
    pictures = [s.tokens[slice(*s.picture)] for s in found]
    said = [vocab.tokenizer.decode(s.tokens[slice(*s.words)].tolist()).strip() for s in found]
    told = [named(text) for text in said]
    rng, own, other, own_names, other_names = np.random.default_rng(0), [], [], [], []
    for n, sentence in enumerate(found):
        others = [m for m in range(len(found)) if told[m] != told[n] and len(pictures[m]) == len(pictures[n])]
        names = _bytes_of_names(vocab, sentence)
        for picture, whole, part in (
            (pictures[n], own, own_names),
            (pictures[int(rng.choice(others))], other, other_names),
        ):
            nats = losses(model, sentence, picture)
            whole.append(nats.sum())
            part.append(nats[names].sum())
    likelier = np.mean(np.array(own) < np.array(other))
    print(f"{len(found)} sentences of unseen videos, mean nats")
    print(f"  after its own picture     {np.mean(own):6.2f}, of which for what is seen {np.mean(own_names):6.2f}")
    print(f"  after another's picture   {np.mean(other):6.2f}, of which for what is seen {np.mean(other_names):6.2f}")
    print(f"  likelier after its own    {likelier:.1%}")
    print(f"  what is seen, by chance   {3 * np.log(3):6.2f}")


def _bytes_of_names(vocab: Vocabulary, sentence: Sentence) -> npt.NDArray[np.bool_]:
    """Which tokens, one a byte, lie in the name of a color, a shape or a ground."""
    tokens = sentence.tokens[slice(*sentence.words)].tolist()
    text = bytes(tokens).decode()
    marked = np.zeros(len(tokens), bool)
    for match in re.finditer(r"\b(red|blue|yellow|circle|bar|triangle|white|black|grey)\b", text):
        marked[match.start() : match.end()] = True
    return marked


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(seconds, 60)
    return f"00:{minutes:02.0f}:{seconds:06.3f}".replace(".", ",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--steps", type=int, default=700)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    seen, unseen = curated(args.work, "seen", args.videos, 1), curated(args.work, "unseen", UNSEEN, 2)
    rows, vocab = documents(seen)
    found = sentences(documents(unseen)[0])
    tokens = sum(len(row["tokens"]) for row in rows)
    print(
        f"{args.videos} how-tos, {len(rows)} documents, {tokens:,} tokens, {len(sentences(rows))} sentences", flush=True
    )

    data = replace(CONFIG.data, context=1024, heldout=0.0, vision_weight=0.5)
    config = replace(CONFIG, data=data, steps=args.steps, validate_every=10_000)
    run = args.work / "run"
    last = checkpoint.latest(run / "checkpoints") if (run / "checkpoints").is_dir() else None
    last = last or train(config, [seen], run, log_fn=lambda _: None)
    print(f"{args.steps} steps of {2 * 1024:,} tokens; {time.process_time() - began:.0f} CPU-seconds", flush=True)
    model = load_decoder(last)[0]
    model.eval()
    measure(model, vocab, found)


if __name__ == "__main__":
    main()
