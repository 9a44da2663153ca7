"""Is damaged footage found, and sound footage left alone? What the damage rules catch, and what they cost.

    python bench/damage.py [--videos N] [--pictures N] [--sound FOLDER...] [--changes N] [--cost FILE...] [--json]

Sound files: N rendered videos (255) of 51 ways of encoding (containers, codecs, sizes, rates, GOP structures, hidden
frames, variable rates, pauses) and eleven kinds of content (camera, drawings, screens, fades, noise, large pixels,
mosaics, slides, stills, titles and flashes), N rendered pictures (170) in 17 formats, and the media of the folders
given. Each is damaged in `--changes` (3) ways of `damage_files.py`, by turns: cut at 10, 50, 90 %, bytes flipped, a
block zeroed, removed, or changed with another, packets dropped. All are
scored in the child and judged by the recipe's damage rules alone.

Truth. A damaged file *shows* it where a decoded frame differs from every frame of the sound file within two frames of
its time: at least 1 % of its blocks of 16 x 16 luma have a PSNR under 20 dB; or where more than two frames, and 2 %,
are missing at the end. Files that decode as before do not count. A file is *caught* when it is refused, or no clip that
is kept shows damage. A false alarm is a sound file that is refused or loses a clip.

`--cost` takes the CPU time of decoding and cutting a file with and without looking for damage, in turns, seven rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from damage_files import CHANGES, CUTS, HOWS, PICTURES, SHOWS, cut, dropped, render, render_picture

from reelmill.compat import one_thread
from reelmill.config import to_dict
from reelmill.curation.decide import decide
from reelmill.curation.expanders import image
from reelmill.curation.expanders import video as expander
from reelmill.curation.ledger import ITEMS, PLAN, item_id
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig, ItemScorer
from reelmill.errors import DataError, MachineError
from reelmill.media import packets, pictures, video
from reelmill.media.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from reelmill.media.reader import MediaReader
from reelmill.media.source import Source
from reelmill.pipelines.curate import recipes

RULES = ("damage", "gaps", "impossible_colours")
BLOCK, PSNR_DB, SHARE, NEAR = 16, 20.0, 0.01, 2
MOST_FRAMES = 400
"""How many frames of a file are compared."""
DROPS = {"1 packet dropped": 1, "5 packets dropped": 5}
KINDS = (*CUTS, *CHANGES, *DROPS)
ROUNDS = 7
Luma = npt.NDArray[np.uint8]


@dataclass
class Verdict:
    """What curation made of a file: a reason when it was refused, else its clips (start, end, rule that rejected)."""

    reason: str | None = None
    clips: list[tuple[float, float, str | None]] = field(default_factory=list)

    @property
    def is_alarm(self) -> bool:
        """Whether any part of the file was left out."""
        return self.reason is not None or any(rule for _, _, rule in self.clips)


def main() -> None:
    """Print tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=255)
    parser.add_argument("--pictures", type=int, default=170)
    parser.add_argument("--changes", type=int, default=3)
    parser.add_argument("--sound", nargs="*", type=Path, default=[])
    parser.add_argument("--cost", nargs="*", type=Path, default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = _sound(root / "sound", arguments)
        changed = _damaged(files, root / "damaged", arguments.changes)
        sound, damaged = _curated(root / "sound"), _curated(root / "damaged")
        found = {"sound": _alarms(sound), "damaged": _caught(changed, damaged)}
    if arguments.cost:
        found["cost"] = [_cost(path) for path in arguments.cost]
    print(json.dumps(found) if arguments.json else _table(found))


# The files.


def _sound(folder: Path, arguments: argparse.Namespace) -> list[Path]:
    folder.mkdir()
    for n in range(arguments.videos):
        how, show = HOWS[n % len(HOWS)], SHOWS[(n + n // len(HOWS) * 3) % len(SHOWS)]
        name = f"v{n:03}-{how.codec}-{show.__name__}-{how.times}.{how.suffix}"
        render(folder / name, how, show, n)
    for n in range(arguments.pictures):
        name, options = list(PICTURES.items())[n % len(PICTURES)]
        show = SHOWS[(n // len(PICTURES)) % len(SHOWS)]
        render_picture(folder / f"p{n:03}-{show.__name__}-{name}", options, show, n)
    given = [path for root in arguments.sound for path in sorted(root.rglob("*")) if "broken" not in path.parts]
    for n, path in enumerate(path for path in given if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES):
        shutil.copy(path, folder / f"g{n:03}-{path.name}")
    return sorted(folder.iterdir())


def _damaged(files: Sequence[Path], folder: Path, changes: int) -> dict[str, tuple[Path, str]]:
    """Write damaged files; name to (the sound file, what was done). Some kinds of file cannot be written anew."""
    folder.mkdir()
    made = {}
    for n, path in enumerate(files):
        data, rng = path.read_bytes(), random.Random(n)
        is_picture = path.suffix.lower() in IMAGE_SUFFIXES
        kinds = KINDS[: -len(DROPS)] if is_picture else KINDS
        for k in range(changes):
            kind = kinds[(n + k * 3 + n // len(kinds)) % len(kinds)]
            name = f"{path.stem}-{kind.replace(' ', '_').replace('%', 'percent')}{path.suffix}"
            if kind in DROPS:
                with contextlib.suppress(av.error.FFmpegError, ValueError):
                    dropped(path, folder / name, rng, DROPS[kind])
                    made[name] = path, kind
                continue
            (folder / name).write_bytes(cut(data, rng, CUTS[kind]) if kind in CUTS else CHANGES[kind](data, rng))
            made[name] = path, kind
    return made


# What curation says.


def _curated(dump: Path) -> dict[str, Verdict]:
    """Items scored in the child as `curate` does, then judged by the recipe's damage rules."""
    recipe = recipes.load("sample")
    recipe.score.scorers = {}
    rules = {name: recipe.rules[name] for name in RULES}
    scorer = ItemScorer(recipe.score, rules)
    scored = [scorer.score(row) for row in map(_plan_row, sorted(dump.iterdir()))]
    scorer.close()
    items = pa.Table.from_pylist([item for item, _ in scored], schema=ITEMS)
    samples = pa.Table.from_pylist([row for _, rows in scored for row in rows], schema=scorer.samples_schema)
    with duckdb.connect(":memory:") as connection:
        connection.register("items", items)
        connection.register("scored", samples)
        judged = {row["sample_id"]: row["rule"] for row in decide(connection, rules).to_pylist()}
    verdicts = {}
    for item, rows in scored:
        clips = [(row["start_s"], row["end_s"], judged[row["sample_id"]]) for row in rows]
        clips = [(start, end, rule if rule in RULES else None) for start, end, rule in clips]
        verdicts[item["uri"]] = Verdict(item["reason"], clips)
    return verdicts


def _plan_row(path: Path) -> dict[str, Any]:
    kind = "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"
    here = {
        "item_id": item_id(path.name),
        "uri": path.name,
        "kind": kind,
        "path": str(path),
        "size": path.stat().st_size,
    }
    return {**dict.fromkeys(PLAN.names), **here, "unit": 0, "offset": 0}


# The truth.


def _caught(changed: dict[str, tuple[Path, str]], verdicts: dict[str, Verdict]) -> list[dict[str, Any]]:
    """One row per damaged file: what was done, whether it was refused, shows damage, was caught."""
    rows = []
    seen: dict[Path, Luma | None] = {}
    with MediaReader() as reader:
        for name, (original, kind) in changed.items():
            verdict = verdicts[name]
            row = {"name": name, "kind": kind, "picture": original.suffix.lower() in IMAGE_SUFFIXES}
            row.update(refused=verdict.reason is not None, shows=True, caught=True)
            if verdict.reason is None:
                path = original.parent.parent / "damaged" / name
                fps = _fps(original) if not row["picture"] else 0.0
                if original not in seen:
                    seen = {original: _luma(reader, original, fps)}
                times = _bad_times(seen[original], _luma(reader, path, fps), fps)
                missed = [
                    t
                    for t in times
                    if any(start <= t < max(end, 1e-9) for start, end, rule in verdict.clips if not rule)
                ]
                row.update(shows=bool(times), caught=not missed, alarm=verdict.is_alarm)
            rows.append(row)
    return rows


def _fps(path: Path) -> float:
    with av.open(str(path)) as container:
        return min(max(float(container.streams.video[0].average_rate or 25), 5.0), 60.0)


def _luma(reader: MediaReader, path: Path, fps: float) -> Luma | None:
    """[T, H, W], frames at the rate `fps`, a picture's one frame for 0; None if they cannot be decoded."""
    source = Source(str(path), 0, path.stat().st_size)
    try:
        if not fps:
            return np.stack([cv2.cvtColor(reader.picture(source)[0], cv2.COLOR_RGB2GRAY)])
        frames = reader.frames_at(source, fps, seconds=MOST_FRAMES / fps)
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    except (DataError, MachineError):
        return None


def _bad_times(sound: Luma | None, found: Luma | None, fps: float) -> list[float]:
    """Times at which damage shows. A file whose frames cannot be decoded shows it everywhere."""
    assert sound is not None
    if found is None or found.shape[1:] != sound.shape[1:]:
        return [k / (fps or 1) for k in range(len(sound))]
    times = [k / (fps or 1) for k, frame in enumerate(found) if _differs(frame, sound, k)]
    missing = len(sound) - len(found)
    return times + ([(len(found) - 1) / fps] if fps and missing > max(NEAR, 0.02 * len(sound)) else [])


def _differs(frame: Luma, sound: Luma, k: int) -> bool:
    near = sorted(range(max(k - NEAR, 0), min(k + NEAR + 1, len(sound))), key=lambda other: abs(other - k))
    return all(_bad_share(frame, sound[other]) >= SHARE for other in near)


def _bad_share(a: Luma, b: Luma) -> float:
    height, width = (side // BLOCK for side in a.shape)
    squares = np.square(cv2.absdiff(a, b)[: height * BLOCK, : width * BLOCK].astype(np.float32))
    means = cv2.resize(squares, (width, height), interpolation=cv2.INTER_AREA)
    return float((means > 255**2 / 10 ** (PSNR_DB / 10)).mean())


# Costs.


def _cost(path: Path) -> dict[str, Any]:
    """CPU seconds of decoding and cutting, the least of the rounds: other work on the machine can only add."""
    source = Source(str(path), 0, path.stat().st_size)
    options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScenesConfig())}
    expand = image.expand if path.suffix.lower() in IMAGE_SUFFIXES else expander.expand

    def spent() -> float:
        began = time.process_time()
        for _ in expand(source, options):
            pass
        return time.process_time() - began

    spent()
    pairs = []
    for _ in range(ROUNDS):
        looking = spent()
        with _blind():
            pairs.append((looking, spent()))
    looking_s, blind_s = (min(times) for times in zip(*pairs, strict=True))
    return {"file": path.name, "cpu_s": looking_s, "without_s": blind_s, "adds": looking_s / blind_s - 1}


@contextlib.contextmanager
def _blind() -> Iterator[None]:
    """Nothing of FFmpeg's log is heard, no color and no packet looked at, and no bytes of a picture."""
    kept = packets.heard, video.heard, expander.impossible_share, video.examiner, pictures.complaints
    packets.heard = video.heard = lambda: contextlib.nullcontext([])  # type: ignore[assignment,misc]
    expander.impossible_share = lambda frame: None
    video.examiner = lambda context: lambda packet: []
    pictures.complaints = lambda *_: []
    try:
        yield
    finally:
        packets.heard, video.heard, expander.impossible_share, video.examiner, pictures.complaints = kept  # type: ignore[misc]


# The figures.


def _alarms(verdicts: dict[str, Verdict]) -> dict[str, Any]:
    """False alarms, with 3/n as the bound where there are none (95 %)."""
    alarms = {name: verdict.reason or verdict.clips for name, verdict in verdicts.items() if verdict.is_alarm}
    videos = sum(Path(name).suffix.lower() in VIDEO_SUFFIXES for name in verdicts)
    return {"files": len(verdicts), "videos": videos, "alarms": alarms, "at_most": round(3 / max(len(verdicts), 1), 4)}


def _table(found: dict[str, Any]) -> str:
    sound = found["sound"]
    lines = [f"sound files {sound['files']} ({sound['videos']} videos), false alarms {len(sound['alarms'])}"]
    lines += [f"  {name}: {what}" for name, what in sound["alarms"].items()]
    if not sound["alarms"]:
        lines.append(f"  so under {sound['at_most']:.2%} of such files (3/n, 95 %)")
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in found["damaged"]:
        what = "pictures" if row["picture"] else "videos"
        groups[what].append(row)
        groups[f"{what}, {row['kind']}"].append(row)
        codec = row["name"].split("-")
        if codec[0].startswith(("v", "p")):
            groups[f"{what}, {codec[1] if not row['picture'] else codec[2]}"].append(row)
    head = f"{'damage':34} {'files':>5} {'refused':>7} {'show it':>7} {'caught':>6} {'recall':>6} {'of all':>6}"
    lines += ["", head]
    for name, rows in sorted(groups.items()):
        refused = sum(row["refused"] for row in rows)
        shows = sum(row["shows"] and not row["refused"] for row in rows)
        caught = sum(row["shows"] and row["caught"] and not row["refused"] for row in rows)
        recall, of_all = _share(caught, shows), _share(refused + caught, refused + shows)
        lines.append(f"{name:34} {len(rows):5} {refused:7} {shows:7} {caught:6} {recall:>6} {of_all:>6}")
    for cost in found.get("cost", []):
        lines.append(f"{cost['file']}: {cost['cpu_s']:.4f} CPU-s, without {cost['without_s']:.4f}: {cost['adds']:+.1%}")
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


if __name__ == "__main__":
    main()
