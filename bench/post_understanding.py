"""Does a model learn to say what a picture shows, and can one checkpoint caption, answer and draw?

    python bench/post_understanding.py WORK

On the toy world of `scenes.py`: both stages of understanding, from a model that has only learned to draw; from the base
model the unified recipe, and a captioner tuned on pairs as `reelmill caption export` writes them. Conversations, pairs
and texts with pictures between them are written as others write them (LLaVA's JSON, messages, `texts` and `images`) and
imported. Judged on scenes that no training has seen: a caption is right when it names color, shape and ground, an
answer when it is the word itself, a picture when `scenes.read` sees what was asked for. "Free" pictures are opened and
sized by the model itself.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from scenes import (
    CONFIG,
    GRID,
    SIDE,
    TOKENIZER,
    Picture,
    Scene,
    World,
    base_model,
    drawn_right,
    every,
    named,
    obeys,
    write_world,
)
from scenes import pictures as drawn_scenes

from reelmill.curation.captions.prompts import load_prompts
from reelmill.curation.pictures import PixelBounds
from reelmill.eval.generation import (
    Clip,
    Request,
    SamplingParams,
    Studio,
    TokenSampling,
    chat_request,
    interleaved_request,
)
from reelmill.pipelines.imports.chat import ChatImport, import_chats
from reelmill.tokenize.documents import Turn, Visual
from reelmill.tokenize.vision import load
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.recipes import recipe
from reelmill.train.run import train

ROWS = 1_500
UNSEEN = 60
QUESTIONS: dict[str, Callable[[Scene], str]] = {
    "What colour is it?": lambda scene: scene.colour,
    "What shape is it?": lambda scene: scene.shape,
    "What is behind it?": lambda scene: scene.ground,
}
BOTH = "Which colours?"
WORDS = load_prompts()["en"].image
LIKELIEST = SamplingParams(text=TokenSampling(temperature=0.0))
STEPS = {"understanding_stage1": 150, "understanding_stage2": 220, "unified": 320, "captioner": 300}


def write_rows(work: Path) -> None:
    """Pictures, and the three files of rows about them."""
    scenes = list(drawn_scenes(World(pictures=2 * ROWS, seed=7)))
    folder = work / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_, picture, _) in enumerate(scenes):
        Image.fromarray(picture).save(folder / f"{number}.png")
    rng = np.random.default_rng(7)
    chats, pairs, mixed = [], [], []
    for n in range(0, len(scenes), 2):
        (one, _, _), (two, _, _) = scenes[n], scenes[n + 1]
        names = [f"{n}.png", f"{n + 1}.png"]
        if n % 10 == 0:
            said = [f"<image>\n<image>\n{BOTH}", f"{one.colour} and {two.colour}"]
            chats.append({"image": names, "conversations": _llava(said)})
        else:
            asked = rng.permutation(list(QUESTIONS))[: rng.integers(1, 4)]
            said = [words for question in asked for words in (question, QUESTIONS[question](one))]
            said[0] = f"<image>\n{said[0]}"
            chats.append({"image": names[0], "conversations": _llava(said)})
        question = [{"type": "image", "image": names[0]}, {"type": "text", "text": WORDS}]
        answer = {"role": "assistant", "content": one.caption}
        pairs.append({"images": names[:1], "messages": [{"role": "user", "content": question}, answer]})
        mixed.append({"texts": [one.caption, None, two.caption, None], "images": [None, names[0], None, names[1]]})
    for name, rows in {"chats": chats, "pairs": pairs[:600], "mixed": mixed[:600]}.items():
        (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _llava(said: Sequence[str]) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": words} for n, words in enumerate(said)]


def import_rows(work: Path) -> None:
    """The three files as run folders."""
    tokenizer = load(TOKENIZER)
    bounds = PixelBounds(SIDE * SIDE, SIDE * SIDE)
    how = ChatImport(work / "pictures", tokenizer, TOKENIZER, Vocabulary("bytes", tokenizer.codes), bounds)
    for name in ("chats", "pairs", "mixed"):
        if not (work / name).exists():
            import_chats(work / f"{name}.jsonl", work / name, how, lambda _: None)


def tuned(work: Path, name: str, init: Path, data: dict[Path, float]) -> Path:
    """The last checkpoint of a recipe at toy size, begun with `init`; `data`: run folders and their shares."""
    out = work / name
    last = checkpoint.latest(out / "checkpoints") if (out / "checkpoints").is_dir() else None
    if last is not None:
        return last
    large = recipe(name)
    shares = list(data.values()) if len(data) > 1 else []
    config = replace(
        CONFIG,
        init=str(init),
        data=replace(large.data, context=512, batch_rows=2, heldout=0.02, shares=shares),
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=20),
        steps=STEPS[name],
        validate_every=10_000,
    )
    began = time.process_time()
    last = train(config, list(data), out, log_fn=lambda _: None)
    print(f"{name}: {config.steps} steps, {time.process_time() - began:.0f} CPU-seconds", flush=True)
    return last


def words_of(studio: Studio, requests: Sequence[Request]) -> list[str]:
    """The answer of a model to each request."""
    prompts = [len(np.asarray(request.prompt)) for request in requests]
    drawn = [tokens[n:] for tokens, n in zip(studio.generate(requests), prompts, strict=True)]
    return [studio.vocab.tokenizer.decode(ids[ids < studio.vocab.text_size].tolist()).strip() for ids in drawn]


def measure(name: str, studio: Studio, unseen: Sequence[tuple[Scene, Picture]]) -> None:
    """Print how often a checkpoint captions, answers and draws correctly."""
    seen = [Visual(studio.vision.encode_image(picture)) for _, picture in unseen]
    captions = [studio.caption(Clip(picture[None]), max_new_tokens=40, sampling=LIKELIEST) for _, picture in unseen]
    right = [named(said) == scene.names for said, (scene, _) in zip(captions, unseen, strict=True)]
    print(f"{name}: captions {np.mean(right):.1%}", end="")
    asked = list(QUESTIONS)
    first = [chat_request(studio.grammar, [visual, q], 20, sampling=LIKELIEST) for visual in seen for q in asked]
    wanted = [QUESTIONS[q](scene) for scene, _ in unseen for q in asked]
    print(f", answers {_share(words_of(studio, first), wanted)}", end="")
    later, then = [], []
    for number, (visual, (scene, _)) in enumerate(zip(seen, unseen, strict=True)):
        one, two = asked[number % 3], asked[(number + 1) % 3]
        before = [Turn([visual, one], [QUESTIONS[one](scene)])]
        later.append(chat_request(studio.grammar, [two], 20, before=before, sampling=LIKELIEST))
        then.append(QUESTIONS[two](scene))
    print(f", in a second turn {_share(words_of(studio, later), then)}", end="")
    pairs = [chat_request(studio.grammar, [a, b, BOTH], 20, sampling=LIKELIEST) for a, b in pairwise(seen)]
    colours = [f"{a.colour} and {b.colour}" for (a, _), (b, _) in pairwise(unseen)]
    print(f", about two pictures {_share(words_of(studio, pairs), colours)}", flush=True)


def measure_drawing(name: str, studio: Studio) -> None:
    """Print how often a checkpoint draws what a caption names: at a given size, and free."""
    captions = [scene.caption for scene in every()] * 2
    sampling = SamplingParams(vision=TokenSampling(top_k=20), text=TokenSampling(temperature=0.0))
    print(f"{name}: pictures that obey their captions {np.mean(drawn_right(studio, captions, sampling)):.1%}", end="")
    requests = [
        interleaved_request(studio.grammar, [caption], 120, sampling=sampling, stream=n)
        for n, caption in enumerate(captions)
    ]
    found = []
    for tokens, caption in zip(studio.generate(requests), captions, strict=True):
        clips = [part for part in studio.parts(tokens) if isinstance(part, Clip)]
        sized = bool(clips) and clips[0].frames.shape[1:3] == (8 * GRID, 8 * GRID)
        found.append((sized, sized and obeys(clips[0].frames[0], caption)))
    opened, right = np.mean(found, axis=0)
    print(f"; free: opened at {GRID}*{GRID} by itself {opened:.1%}, and obey {right:.1%}", flush=True)


def _share(said: Sequence[str], wanted: Sequence[str]) -> str:
    return f"{np.mean([a == b for a, b in zip(said, wanted, strict=True)]):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    work = parser.parse_args().work
    world = write_world(work / "world")
    base = base_model(work / "base", world)
    if not (work / "mixed.jsonl").exists():
        write_rows(work)
    import_rows(work)
    unseen = [(scene, picture) for scene, picture, _ in drawn_scenes(World(pictures=UNSEEN, seed=1_000))]

    drawn = write_world(work / "drawn", World(pictures=2_000, seed=2_000, after=0.0, colourless=0.0))
    drawer = base_model(work / "drawer", drawn, replace(CONFIG, steps=400))
    one = tuned(work, "understanding_stage1", drawer, {drawn: 1})
    two = tuned(work, "understanding_stage2", one, {work / "chats": 0.8, drawn: 0.2})
    both = tuned(work, "unified", base, {world: 0.4, work / "chats": 0.4, work / "mixed": 0.2})
    own = tuned(work, "captioner", base, {work / "pairs": 1})

    for name, place in {"drawer": drawer, "stage 1": one, "stage 2": two, "base": base, "unified": both}.items():
        studio = Studio.open(place)
        measure(name, studio, unseen)
        if name in ("base", "unified"):
            measure_drawing(name, studio)
    for name, place in {"base": base, "captioner": own}.items():
        studio = Studio.open(place)
        requests = [
            chat_request(studio.grammar, [Visual(studio.vision.encode_image(picture)), WORDS], 40, sampling=LIKELIEST)
            for _, picture in unseen
        ]
        said = words_of(studio, requests)
        right = [named(words) == scene.names for words, (scene, _) in zip(said, unseen, strict=True)]
        print(f"{name}, asked as the caption stage asks: {np.mean(right):.1%}", flush=True)


if __name__ == "__main__":
    main()
