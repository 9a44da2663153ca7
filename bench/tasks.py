"""Can one small model do Emu3.5's six tasks, and better than six models of its size with one task each?

    python bench/tasks.py WORK [--tokenizer reelmill-tok16-s] [--steps 900] [--rows 240] [--seeds 3] [--equal task]

The toy world of `scenes.py`, grown by what happens to a shape: a caption is drawn (t2i), a picture is edited (x2i), a
shape is made step by step (howto), has a day (story), is passed by a camera that turns (explore), and an arm stacks
blocks (vla). Rows are written in the layout `tasks`, imported by `reelmill chat import`'s own code, trained on from
nothing: the mixture for `--steps`, each specialist on its task alone, with `--equal task` for a sixth of them, so that
both see a task equally often, and with `--equal total` for as many. With several seeds, which order the rows and draw
the first weights, the table says their mean and the smallest and largest. A quarter of a task's questions are kept
from its training; of these and of as many that were trained on the likeliest answer is generated, and every picture
that was due is read back from its pixels: right if it shows what it should at its place.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scenes import COLOURS, CONFIG, GROUNDS, SIDE, Picture, Scene, every, read, render

from reelmill.curation.pictures import PixelBounds
from reelmill.draws import uniform
from reelmill.eval.generation import Clip, SamplingParams, Studio, TokenSampling
from reelmill.pipelines.imports.chat import ChatImport, import_chats
from reelmill.tokenize.vision import VisionTokenizer, load
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.checkpoint import latest
from reelmill.train.config import TrainConfig
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig

Stack = tuple[str, ...]
"""Colors of blocks, from the table up."""
Shown = Scene | Stack
"""The contents of a picture."""
HEIGHT = 3
TABLE = (128, 128, 128)
GREEDY = SamplingParams(vision=TokenSampling(temperature=0), text=TokenSampling(temperature=0))
TASKS = ("t2i", "x2i", "howto", "story", "explore", "vla")
_NEXT = dict(zip(COLOURS, [*list(COLOURS)[1:], *list(COLOURS)[:1]], strict=True))


@dataclass(frozen=True)
class Case:
    """A question and the answer that is right: words and what pictures show by turns."""

    task: str
    question: str
    answer: tuple[str | Scene | Stack, ...]
    given: tuple[Scene | Stack, ...] = ()

    @property
    def due(self) -> list[Shown]:
        """What the pictures of the answer show, in order."""
        return [part for part in self.answer if not isinstance(part, str)]

    @property
    def is_kept(self) -> bool:
        """Whether it is held out from training."""
        return uniform(f"{self.task} {self.question} {self.given}") < 1 / 4


def cases(task: str) -> list[Case]:
    """All questions of a task."""
    return list(_CASES[task]())


def _t2i() -> Iterator[Case]:
    for scene in every():
        yield Case("t2i", scene.caption, (scene,))


def _x2i() -> Iterator[Case]:
    for scene in every():
        for colour in COLOURS:
            if colour != scene.colour:
                yield Case("x2i", f"make it {colour}", (replace(scene, colour=colour),), (scene,))
        for ground in GROUNDS:
            if ground != scene.ground:
                yield Case("x2i", f"put it on {ground}", (replace(scene, ground=ground),), (scene,))


def _howto() -> Iterator[Case]:
    start = Scene("red", "circle", "white")
    for goal in every():
        first = replace(start, ground=goal.ground)
        second = replace(first, shape=goal.shape)
        steps = (f"Lay out {goal.ground}.", first, f"Cut a {goal.shape}.", second, f"Paint it {goal.colour}.", goal)
        yield Case("howto", f"How to make {goal.caption}", steps)


def _story() -> Iterator[Case]:
    for scene in every():
        noon = replace(scene, colour=_NEXT[scene.colour])
        night = replace(noon, ground="black")
        told = (f"It wakes {scene.colour}.", scene, f"At noon it is {noon.colour}.", noon, "Night falls.", night)
        yield Case("story", f"The day of {scene.caption}", told)


def _explore() -> Iterator[Case]:
    back = {after: before for before, after in _NEXT.items()}
    for scene, turns in itertools.product(every(), itertools.product(("right", "left"), repeat=2)):
        seen, answer = scene, []
        for turn in turns:
            seen = replace(seen, colour=(_NEXT if turn == "right" else back)[seen.colour])
            answer += [f"turn {turn}", seen]
        yield Case("explore", f"turn {turns[0]}, then {turns[1]}", tuple(answer), (scene,))


def _vla() -> Iterator[Case]:
    for colours in itertools.product(COLOURS, repeat=HEIGHT):
        placed = [(f"place {colour}", colours[: number + 1]) for number, colour in enumerate(colours)]
        yield Case("vla", f"stack {', '.join(colours)}", tuple(itertools.chain(*placed)), ((),))


_CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "t2i": _t2i, "x2i": _x2i, "howto": _howto, "story": _story, "explore": _explore, "vla": _vla,
}  # fmt: skip


def picture_of(shown: Shown) -> Picture:
    """uint8 [48, 48, 3]."""
    if isinstance(shown, Scene):
        return render(shown)
    picture = np.full((SIDE, SIDE, 3), TABLE, dtype=np.uint8)
    size = SIDE // HEIGHT
    for number, colour in enumerate(shown):
        bottom = SIDE - number * size
        picture[bottom - size : bottom, size // 2 : -size // 2] = COLOURS[colour]
    return picture


def stack_in(picture: Picture) -> Stack:
    """The blocks that a picture shows, up to the first free place."""
    size = SIDE // HEIGHT
    found: list[str] = []
    for number in range(HEIGHT):
        bottom = SIDE - number * size
        seen = np.median(picture[bottom - size : bottom, size : 2 * size].reshape(-1, 3).astype(np.float32), axis=0)
        names = {"": TABLE, **COLOURS}
        nearest = min(names, key=lambda name: float(np.abs(seen - np.array(names[name])).sum()))
        if not nearest:
            break
        found.append(nearest)
    return tuple(found)


def shows(picture: Picture, due: Shown) -> bool:
    """Whether a picture shows what is due."""
    if picture.shape != (SIDE, SIDE, 3):
        return False
    return read(picture).names == due.names if isinstance(due, Scene) else stack_in(picture) == due


def name_of(shown: Shown) -> str:
    """The file of a picture."""
    return f"{'-'.join(shown.names) if isinstance(shown, Scene) else '_'.join(('stack', *shown))}.png"


def write_rows(work: Path, rows: int) -> None:
    """Pictures, and of each task `rows` rows of what is trained on."""
    folder = work / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        trained = [case for case in cases(task) if not case.is_kept]
        rng = np.random.default_rng([7, TASKS.index(task)])
        lines = []
        for case in (trained[number] for number in rng.integers(len(trained), size=rows)):
            for shown in (*case.given, *case.due):
                path = folder / name_of(shown)
                if not path.is_file():
                    Image.fromarray(picture_of(shown)).save(path)
            answer = [{"text": p} if isinstance(p, str) else {"image": name_of(p)} for p in case.answer]
            images = [name_of(shown) for shown in case.given]
            lines.append({"task": task, "question": case.question, "images": images, "answer": answer})
        (work / f"{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def import_rows(work: Path, tokenizer: VisionTokenizer, name: str) -> list[Path]:
    """A run folder of each task."""
    vocab = Vocabulary("bytes", tokenizer.codes, tokenizer.layout)
    bounds = PixelBounds(SIDE * SIDE, SIDE * SIDE)
    how = ChatImport(work / "pictures", tokenizer, name, vocab, bounds, task_layout="tasks")
    for task in TASKS:
        if not (work / task).is_dir():
            import_chats(work / f"{task}.jsonl", work / task, how, say=lambda _: None)
    return [work / task for task in TASKS]


def trained(work: Path, name: str, folders: Sequence[Path], steps: int, seed: int) -> Path:
    """The last checkpoint of a model trained on the folders."""
    config: TrainConfig = replace(
        CONFIG,
        data=replace(CONFIG.data, heldout=0.01),
        optimizer=replace(CONFIG.optimizer, warmup_steps=max(1, steps // 20)),
        steps=steps,
        seed=seed,
        validate_every=steps,
        checkpoint=CheckpointConfig(every=steps),
    )
    run = work / "runs" / f"{name}-{steps}-{seed}"
    last = latest(run / "checkpoints") if (run / "checkpoints").is_dir() else None
    return last or train(config, list(folders), run, log_fn=lambda _: None)


def score(studio: Studio, tests: Sequence[Case]) -> float:
    """Share of the pictures that are due which are right, at their place."""
    right = []
    for case in tests:
        given = [Clip(picture_of(shown)[None]) for shown in case.given]
        answers = studio.answers(
            case.task, [case.question], pictures=given, size=(SIDE // 16, SIDE // 16), max_new_tokens=240,
            sampling=GREEDY,
        )  # fmt: skip
        ((_, parts),) = answers
        drawn = [part.frames[0] for part in parts if isinstance(part, Clip)]
        right += [place < len(drawn) and shows(drawn[place], due) for place, due in enumerate(case.due)]
    return float(np.mean(right))


def tests_of(task: str, count: int) -> tuple[list[Case], list[Case]]:
    """(questions that were kept from training, as many that were trained on)."""
    everything = cases(task)
    kept = [case for case in everything if case.is_kept][:count]
    return kept, [case for case in everything if not case.is_kept][: len(kept)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--tokenizer", default="reelmill-tok16-s")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--tests", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--equal", choices=("task", "total"), default="task")
    args = parser.parse_args()
    began = time.process_time()
    tokenizer = load(args.tokenizer)
    everything = {shown for task in TASKS for case in cases(task) for shown in (*case.given, *case.due)}
    back = [
        shows(tokenizer.decode_image(tokenizer.encode_image(picture_of(shown)), (SIDE, SIDE)), shown)
        for shown in everything
    ]
    print(f"{np.mean(back):.1%} of {len(back)} pictures are read rightly after the tokenizer", flush=True)
    write_rows(args.work, args.rows)
    folders = dict(zip(TASKS, import_rows(args.work, tokenizer, args.tokenizer), strict=True))
    print(f"rows: {time.process_time() - began:.0f} CPU-seconds", flush=True)

    own = args.steps // len(TASKS) if args.equal == "task" else args.steps
    tests = {task: tests_of(task, args.tests) for task in TASKS}
    scores: dict[str, list[list[float]]] = {task: [] for task in TASKS}

    def opened(name: str, some: Sequence[Path], steps: int, seed: int) -> Studio:
        began = time.process_time()
        studio = Studio.open(trained(args.work, name, some, steps, seed), args.tokenizer)
        print(f"{name}, seed {seed}, {steps} steps: {time.process_time() - began:.0f} CPU-seconds", flush=True)
        return studio

    for seed in range(args.seeds):
        mixture = opened("mixture", list(folders.values()), args.steps, seed)
        for task, folder in folders.items():
            specialist = opened(task, [folder], own, seed)
            scores[task].append([score(studio, some) for some in tests[task] for studio in (mixture, specialist)])
            print(seed, row(task, scores[task][-1:]), flush=True)
    print("| task | mixture, kept | one task, kept | mixture, trained on | one task, trained on |")
    print("|---|---|---|---|---|")
    for task, found in scores.items():
        print(row(task, found))
    print(row("all", [list(np.mean([found[seed] for found in scores.values()], axis=0)) for seed in range(args.seeds)]))


def row(name: str, scores: Sequence[Sequence[float]]) -> str:
    """A line of the table: of each column the mean over seeds, and the smallest and largest."""
    columns = np.array(scores).T
    cells = [f"{x.mean():.0%}" + (f" ({x.min():.0%} to {x.max():.0%})" if len(x) > 1 else "") for x in columns]
    return f"| {' | '.join([name, *cells])} |"


if __name__ == "__main__":
    main()
