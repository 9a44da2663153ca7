"""What does curation cost beside plain decoding? CPU-seconds and peak memory of whole processes, one after another.

    python bench/curate.py [VIDEO] [--memory] [--ray]

Floors and peers in the same run: PyAV decoding alone and with its fast bilinear scaler, ffmpeg decoding and scaling to
256 wide (where the ffmpeg program is installed), PySceneDetect's command. Ours: the expander (cuts, fades, sampled
frames and runs of native frames from one pass), the whole chain on the CPU without RAFT, and with it. Without VIDEO a
60 s clip of 1280x720 is made from the sample media. `--memory` compares a 2-minute file with a 30-minute one; `--ray`
compares the sample dump inline, on Ray with one worker and with two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av

from reelmill import weights

DECODE = """
import av, sys
from av.video.reformatter import Interpolation, VideoReformatter
scaler, n = VideoReformatter(), 0
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        n += 1
        if sys.argv[2] == "scale":
            scaler.reformat(frame, 256, 144, "bgr24", interpolation=Interpolation.FAST_BILINEAR)
"""
EXPAND = """
import sys
from reelmill.config import to_dict
from reelmill.curation.expanders import video
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig
from reelmill.curation.sources import Source
from pathlib import Path
path = Path(sys.argv[1])
options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScenesConfig())}
for body, _ in video.expand(Source(str(path), 0, path.stat().st_size), options):
    if body["type"] == "sample":
        print(body["start_s"])
"""
SCORE = """
import json, sys
from pathlib import Path
from reelmill.compat import one_thread
from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import ItemScorer
from reelmill.pipelines import recipes
one_thread()
recipe = recipes.load("video", ["rules.duration.min=0", "rules.motion.min=0"])
for name in sys.argv[2].split():
    del recipe.score.scorers[name]
scorer = ItemScorer(recipe.score, recipe.rules)
path = Path(sys.argv[1])
item = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": "x", "uri": "x", "kind": "video"}
row, samples, *_ = scorer.score({**item, "path": str(path), "offset": 0, "size": path.stat().st_size})
assert row["status"] == "done", row["reason"]
scorer.close()
"""


def cost(command: list[str], **environment: str) -> tuple[float, float, str]:
    """CPU-seconds of a process and its children, its peak memory in MB (the largest process), its output."""
    meter = (
        "import resource, subprocess, sys, json\n"
        "done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, done.stdout.decode()]))"
    )
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", meter, *command], check=True, capture_output=True, env=variables)
    cpu, memory, output = json.loads(done.stdout)
    return cpu, memory, output


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def make_video(path: Path, seconds: float) -> Path:
    """1280x720 H.264 of real footage: Big Buck Bunny's clip and the cyclists, in turns."""
    sources = [weights.path("media-bigbuckbunny"), weights.path("media-bikes")]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "23", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        count = 0
        while count < seconds * 25:
            with av.open(str(sources[(count // 125) % 2])) as source:
                for i, frame in enumerate(source.decode(video=0)):
                    if i == 125:
                        break
                    picture = frame.reformat(1280, 720, "yuv420p")
                    picture.pts, picture.time_base = count, Fraction(1, 25)
                    out.mux(stream.encode(picture))
                    count += 1
        out.mux(stream.encode())
    return path


def chain(video: Path, folder: Path) -> None:
    """Floors, peers, ours."""
    jobs: dict[str, list[str]] = {
        "floor: PyAV decode": python(DECODE, str(video), "plain"),
        "floor: PyAV decode + fast bilinear 256x144": python(DECODE, str(video), "scale"),
    }
    if shutil.which("ffmpeg"):
        scale = ["-vf", "scale=256:144", "-pix_fmt", "rgb24", "-f", "rawvideo", "-y", os.devnull]
        jobs["peer: ffmpeg decode + scale 256x144"] = ["ffmpeg", "-threads", "1", "-i", str(video), *scale]
    command = ["-q", "-i", str(video), "-o", str(folder), "detect-content", "list-scenes", "-q"]
    jobs["peer: scenedetect detect-content"] = [sys.executable, "-m", "scenedetect", *command]
    jobs["ours: cuts, fades and sampled frames"] = python(EXPAND, str(video))
    jobs["ours: whole chain without RAFT"] = python(SCORE, str(video), "motion_raft aesthetic")
    jobs["ours: whole chain"] = python(SCORE, str(video), "aesthetic")
    start = {name: cost(python(code, *rest))[0] for name, code, rest in idle(jobs)}
    results = {}
    for name, job in jobs.items():
        cpu, memory, _ = cost(job)
        results[name] = (cpu, memory)
        floor = results["floor: PyAV decode + fast bilinear 256x144"][0] if len(results) > 1 else cpu
        print(f"{name:46} {cpu:7.2f} CPU-s  {memory:6.0f} MB   {cpu / floor:5.2f} x decode + scale", flush=True)
    for name, cpu in start.items():
        print(f"  of which starting up ({name}): {cpu:.2f} CPU-s")


def idle(jobs: dict[str, list[str]]) -> list[tuple[str, str, list[str]]]:
    """What the interpreters and imports alone cost."""
    expand = "from reelmill.curation.expanders import video"
    score = SCORE.partition("path = ")[0] + "scorer.close()"
    return [("expander", expand, []), ("chain", score, ["", "aesthetic"])]


def memory(folder: Path) -> None:
    """Peak memory of the process that decodes and scores, on 2 and on 30 minutes."""
    short = make_video(folder / "short.mp4", 120)
    long = folder / "long.mp4"
    repeat(short, long, 15)
    peaks = {}
    for name, path in (("2 minutes", short), ("30 minutes", long)):
        _, peaks[name], _ = cost(python(SCORE, str(path), "motion_raft aesthetic text"))
        print(f"decode and score, {name:12} {peaks[name]:6.0f} MB", flush=True)
    print(f"growth {peaks['30 minutes'] - peaks['2 minutes']:.0f} MB")


def repeat(source: Path, target: Path, times: int) -> None:
    """Copy a video's packets `times` times, one after another."""
    with av.open(str(target), "w") as out:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        out.mux(packet)
                shift += video.duration or 0


def ray(folder: Path) -> None:
    """The sample dump inline, on Ray with one worker, with two: CPU-seconds and wall seconds."""
    dump = folder / "dump"
    subprocess.run([sys.executable, "-m", "reelmill", "sample-dump", str(dump)], check=True, capture_output=True)
    for name, how in {
        "inline": ["--executor", "inline"],
        "Ray, 1 worker": ["--workers", "1"],
        "Ray, 2 workers": ["--workers", "2"],
    }.items():
        out = str(folder / name.replace(" ", "-"))
        command = [sys.executable, "-m", "reelmill", "curate", str(dump), "--out", out, "--recipe", "sample", *how]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        print(f"sample dump, {name:15} {time.perf_counter() - began:6.1f} s wall", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if arguments.memory:
            memory(folder)
        elif arguments.ray:
            ray(folder)
        else:
            chain(arguments.video or make_video(folder / "made.mp4", 60), folder)


if __name__ == "__main__":
    main()
