"""What does each decoding mode cost compared with plain decoding, and what quality does it lose?

    python bench/parallel.py WORK [--ways plain exact-parallel:8 diagonal dida:4 ...] [--rows 1 4 16 64]
        [--pictures 108] [--sheet FILE.png] [--json]

The model is that of `bench/scenes.py` (made in WORK where it is not there, about 4 CPU-minutes): pictures of 6 x 6
codes with structure, so that the next codes can be guessed. `diagonal` and `dida` are its adaptations by these
objectives, each with as many steps on the same data: pictures that it drew itself, and the world's documents (about 5
CPU-minutes each). For each way and number of pictures at a time: forward passes and CPU-seconds a picture, both also as
ratios to the first way in the same run; the share of pictures that obey their captions; and the distance of their pairs
of neighboring codes from those of plain decoding (total variation over classes of codes; two halves of plain pictures
have the distance that is printed as noise). At the end, nats a token of the held-out documents before and after each
adaptation, and of the codes as the adapted model draws them. The law of plain and exact-parallel is the same
(`tests/eval/test_exact_parallel.py`). `--sheet` draws twelve captions in columns, the ways in rows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scenes import CONFIG, GRID, base_model, every, obeys, write_world

from reelmill.eval.generation import SamplingParams, Studio, TokenSampling, image_request
from reelmill.eval.generation.decoding import PLAIN, Decoding, decoding_of
from reelmill.eval.generation.engine import Engine, Pictures
from reelmill.eval.generation.request import Request
from reelmill.pipelines.imports.tokens import import_tokens
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.model import Decoder
from reelmill.train.objectives.diagonal import DiagonalConfig
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.run import train

WAYS = (
    "plain", "exact-parallel:8", "rows:1", "rows:2", "diagonal", "dida:1", "dida:2", "dida:4", "dida:8", "dida:16",
)  # fmt: skip
ADAPTED: dict[str, dict[str, object]] = {"diagonal": {"diagonal": DiagonalConfig(backbone_rate=0.5)}, "dida": {}}
"""Ways that are learned, and the settings of their objectives."""
STEPS = 1_000
"""Of each adaptation."""
DRAWN = 4_000
"""Pictures that the model draws itself to be adapted to."""
CLASSES = 16
"""Classes of codes whose neighbors are counted: codes are too many for so few pictures."""

Codes = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--ways", nargs="+", default=WAYS, help="NAME or NAME:NUMBER, its window, steps or lag")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--pictures", type=int, default=108)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    world = write_world(arguments.work / "world")
    base = base_model(arguments.work / "base", world)
    places = {"base": base}
    for objective in ADAPTED:
        if any(way.startswith(objective) for way in arguments.ways):
            data = [drawn(arguments.work / "drawn", base), world]
            places[objective] = adapted(arguments.work / objective, objective, data, base)
    studios = {name: Studio.open(place) for name, place in places.items()}
    reference, _ = draw(studios["base"], PLAIN, 16, 2 * arguments.pictures, arguments.temperature, seed=2)
    classes = classes_of(studios["base"])
    halves = pair_distance(reference[: arguments.pictures], reference[arguments.pictures :], classes)
    table = []
    sheet: dict[str, Codes] = {}
    for rows in arguments.rows:
        first = None
        for way in arguments.ways:
            name, _, number = way.partition(":")
            where = name if name in ADAPTED else "base"
            decoding = decoding_from(name, int(number or 0), places[where], studios[where])
            codes, took = draw(studios[where], decoding, rows, arguments.pictures, arguments.temperature)
            first = first or took
            sheet.setdefault(way, codes)
            row = {
                "at_a_time": rows,
                "way": way,
                **took,
                "passes_ratio": first["passes"] / took["passes"],
                "cpu_ratio": first["cpu_s"] / took["cpu_s"],
                "obeyed": obeyed(studios[where], codes),
                "pair_distance": pair_distance(codes, reference, classes),
            }
            table.append(row)
            if not arguments.json:
                print(
                    f"{rows:3} at a time, {way:18} {row['passes']:7.1f} passes ({row['passes_ratio']:5.2f}x fewer), "
                    f"{row['cpu_s']:.4f} CPU-s a picture ({row['cpu_ratio']:5.2f}x less), captions obeyed "
                    f"{row['obeyed']:.1%}, pairs away {row['pair_distance']:.3f} (noise {halves:.3f})",
                    flush=True,
                )
    if arguments.sheet:
        write_sheet(arguments.sheet, studios["base"], list(sheet.values()))
    nats = {name: held_out(place) for name, place in places.items()}
    print(json.dumps({"table": table, "noise": halves, "nats": nats}, indent=2) if arguments.json else nats)


def decoding_from(name: str, number: int, place: Path, studio: Studio) -> Decoding:
    """A way by its name, with its window, steps or lag."""
    steps, lag = (number or None if name == way else None for way in ("dida", "rows"))
    found = decoding_of(name, steps, lag, place, studio.vision, studio.rows)
    return replace(found, window=number) if name == "exact-parallel" and number else found


def drawn(folder: Path, model: Path) -> Path:
    """The run folder `folder` of pictures that the model draws for the captions of all scenes. What is there stays."""
    if folder.exists():
        return folder
    studio = Studio.open(model)
    codes, _ = draw(studio, replace(PLAIN, window=4), 16, DRAWN, 1.0, seed=7)
    lines = folder.with_suffix(".jsonl")
    captions = [scene.caption for scene in every()]
    with lines.open("w") as file:
        for number, picture in enumerate(codes):
            file.write(json.dumps({"text": captions[number % len(captions)], "codes": picture.tolist()}) + "\n")
    vision = studio.vision
    import_tokens(lines, folder, studio.vocab, vision.fingerprint, vision.name, say=lambda _: None)
    return folder


def adapted(folder: Path, objective: str, data: list[Path], model: Path) -> Path:
    """The last checkpoint of the model adapted by an objective, in the training run `folder`, which goes on where it
    was stopped."""
    config = replace(
        CONFIG,
        model=replace(CONFIG.model, vertical_layers=int(objective == "diagonal")),
        objective=objective,
        settings=ADAPTED[objective],
        init=str(model),
        data=replace(CONFIG.data, caption_drop=0.1),
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=50),
        steps=STEPS,
        validate_every=STEPS,
    )
    return train(config, data, folder, log_fn=lambda line: print(line, flush=True))


def draw(
    studio: Studio, decoding: Decoding, rows: int, pictures: int, temperature: float, seed: int = 1
) -> tuple[Codes, dict[str, float]]:
    """Codes [pictures, GRID, GRID], and passes (of a batch, shared by its pictures) and CPU-seconds a picture."""
    scenes = every()
    sampling = SamplingParams(vision=TokenSampling(temperature=temperature), seed=seed)
    requests = [
        image_request(
            studio.visual_grammar, scenes[number % len(scenes)].caption, GRID, GRID, sampling=sampling, stream=number
        )
        for number in range(pictures)
    ]
    tokens, took = timed(studio.model, studio.vocab, requests, rows, decoding.window, decoding.pictures)
    start = studio.vocab.vision_start
    codes = np.array([[token - start for token in ids if token >= start] for ids in tokens])
    return codes.reshape(-1, GRID, GRID), took


def timed(
    model: Decoder, vocab: Vocabulary, requests: Sequence[Request], rows: int, window: int, how: Pictures | None = None
) -> tuple[list[list[int]], dict[str, float]]:
    """The new tokens of each request, and passes (of a batch, shared by its pictures) and CPU-seconds for each."""
    capacity = max(request.max_length for request in requests)
    engine = Engine(model, vocab, rows=rows, capacity=capacity, window=window, pictures=how)
    for number, request in enumerate(requests):
        engine.submit(number, request)
    tokens: list[list[int]] = [[] for _ in requests]
    began = time.process_time()
    while not engine.is_idle:
        for event in engine.step():
            tokens[event.request].append(event.token)
    took = time.process_time() - began
    return tokens, {"passes": engine.passes / len(requests), "cpu_s": took / len(requests)}


def write_sheet(path: Path, studio: Studio, rows: list[Codes], columns: int = 12) -> None:
    """A PNG of the first pictures of each way, which have the same captions, a way in each row."""
    shown = [
        np.concatenate([studio.vision.decode_image(picture.astype(np.int32)) for picture in codes[:columns]], axis=1)
        for codes in rows
    ]
    Image.fromarray(np.concatenate(shown)).save(path, optimize=True)


def obeyed(studio: Studio, codes: Codes) -> float:
    """Share of pictures, of all scenes in turn, that show what their captions name."""
    scenes = every()
    shown = [
        obeys(studio.vision.decode_image(picture.astype(np.int32)), scenes[number % len(scenes)].caption)
        for number, picture in enumerate(codes)
    ]
    return float(np.mean(shown))


def classes_of(studio: Studio) -> Codes:
    """A class of each code: those whose vectors are nearest to the same of CLASSES codes."""
    book = studio.vision.codebook()
    centres = book[torch.linspace(0, len(book) - 1, CLASSES).long()]
    return torch.cdist(book, centres).argmin(1).numpy()


def pair_distance(some: Codes, others: Codes, classes: Codes) -> float:
    """Total variation between the classes of neighboring codes, beside and below each other, of two sets."""
    shares = []
    for codes in (some, others):
        known = classes[codes]
        pairs = [known[:, :, :-1] * CLASSES + known[:, :, 1:], known[:, :-1] * CLASSES + known[:, 1:] + CLASSES**2]
        counts = np.bincount(np.concatenate([pair.ravel() for pair in pairs]), minlength=2 * CLASSES**2)
        shares.append(counts / counts.sum())
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def held_out(place: Path) -> dict[str, float]:
    """Nats a token of the world's held-out documents, by kind, as the base model was validated."""
    from reelmill.train.data.corpus import Corpus
    from reelmill.train.data.loader import Loader
    from reelmill.train.objectives.by_kind import means_by_kind, sums_by_kind

    model, _, _ = checkpoint.load_decoder(place)
    data = CONFIG.data.for_validation()
    corpus = Corpus([place.parents[2] / "world"], None, data)
    loader = Loader(corpus, np.flatnonzero(corpus.heldout), data, CONFIG.seed)
    sums = torch.zeros(2, 3, dtype=torch.float64)
    with torch.no_grad():
        for number in range(loader.packing(0).rows):
            batch = loader.build([loader.packing(0).row(number)])
            tokens, positions, targets, kinds = (
                torch.from_numpy(x).long() for x in (batch.tokens, batch.positions, batch.targets, batch.kinds)
            )
            hidden = model(tokens, positions, batch.lengths)
            _, nll, _ = model.lm_head.loss(hidden, targets, torch.from_numpy(batch.weights))
            sums += sums_by_kind(nll, kinds)
    return means_by_kind(sums)


if __name__ == "__main__":
    main()
