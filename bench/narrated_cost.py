"""What does recipe `emu3_5` cost beside plain decoding? CPU-seconds an hour of video, by stage.

    python bench/narrated_cost.py WORK [VIDEO] [--set KEY=VALUE ...]

Without VIDEO a film of 10 minutes is made of the sample media (1280x720 H.264, a cut every 5 s) with a voice-like sound
and subtitles. The recipe runs in one process and what it spent is read from `timings`, without speech recognition. The
floor is PyAV decoding the pictures, in a process of its own whose start is taken off.
"""

from __future__ import annotations

import argparse
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from curate import DECODE, cost, make_video, python, repeat
from rich.console import Console

from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.sampledump.narrated import subtitles

MADE_S, TIMES, RATE, STEP_S = 60, 10, 16_000, 6
SECONDS = MADE_S * TIMES
SETTINGS = ("engine.executor=inline", 'transcripts.sources=["subtitles"]')
START = "import av, sys\nfrom av.video.reformatter import Interpolation, VideoReformatter"
BY_STAGE = """
SELECT CASE WHEN move = 'score' AND stage = 'decode and cut' THEN 'decode, cuts and key frames'
        WHEN move = 'score' THEN 'scorer ' || stage WHEN move = 'audio' AND stage = 'decode' THEN 'sound: decode'
        WHEN move = 'audio' THEN 'sound: loudness and voices' WHEN move = 'tokenize' THEN 'tokens: ' || stage
        ELSE move || ': ' || stage END AS part,
    sum(cpu_s) AS cpu_s FROM timings GROUP BY part ORDER BY cpu_s DESC"""


def add_voice(pictures: Path, target: Path) -> None:
    """The same pictures with bursts of a hum of many overtones, 16 kHz mono AAC: as long to decode as speech."""
    t = np.arange(SECONDS * RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 20)) * (np.sin(2 * np.pi * 2 * t) > 0)
    data = (hum / np.abs(hum).max() * 0.5).astype(np.float32)
    with av.open(str(pictures)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("aac", rate=RATE, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
        for at in range(0, len(data), 1024):
            frame = av.AudioFrame.from_ndarray(data[None, at : at + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    args = parser.parse_args()
    dump, out = args.work / "dump", args.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    dump.mkdir(parents=True, exist_ok=True)
    video = args.video or dump / "video.mp4"
    if args.video is None and not video.exists():
        repeat(make_video(args.work / "minute.mp4", MADE_S), args.work / "pictures.mp4", TIMES)
        add_voice(args.work / "pictures.mp4", video)
        lines = [f"This is said while step {n} is shown." for n in range(SECONDS // STEP_S)]
        video.with_suffix(".srt").write_text(subtitles(lines))
    recipe = recipes.load("emu3_5", [*SETTINGS, *args.set])
    curate([args.video or dump], out, recipe, CurateOptions(), Console(quiet=True))
    with LedgerQueries(out) as ledger:
        parts = ledger.rows(BY_STAGE)
        (media,) = ledger.rows("SELECT sum(duration_s) AS seconds FROM items WHERE kind = 'video'")
        (made,) = ledger.rows("SELECT count(*) AS documents, coalesce(sum(n_tokens), 0) AS tokens FROM tokens")
        (seen,) = ledger.rows("SELECT count(*) AS n FROM keyframes WHERE problem IS NULL")
    floor = min(cost(python(DECODE, str(video), "plain")).cpu - cost(python(START)).cpu for _ in range(2))
    hour = 3600 / media["seconds"]
    print(f"{media['seconds']:.0f} s of video, {seen['n']} key frames, {made['documents']} documents", end="")
    print(f", {made['tokens']:,} tokens")
    print(f"{'floor: decoding the pictures':32}{floor * hour:8.0f} CPU-s an hour")
    for part in parts:
        print(f"{part['part']:32}{part['cpu_s'] * hour:8.1f}   {part['cpu_s'] / floor:6.2f}")
    whole = sum(part["cpu_s"] for part in parts)
    print(f"{'all':32}{whole * hour:8.0f}   {whole / floor:6.2f}")


if __name__ == "__main__":
    main()
