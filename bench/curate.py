"""What does curation cost compared with plain decoding? CPU-seconds and peak memory of whole processes.

    python bench/curate.py [VIDEO] [--rounds N] [--pass-only] [--raft] [--data-juicer PYTHON] [--memory] [--ray]
        [--json]

Floors and peers in the same run: PyAV decoding alone, with its fast bilinear and with its bicubic scaler (ffmpeg's
default), the ffmpeg program decoding and scaling (where it is installed; old versions scale at three times the cost),
PySceneDetect's command, all to 256 wide. Ours: the expander (cuts, fades, sampled frames and runs of native frames from
one pass), the whole chain on the CPU without RAFT (`--pass-only` leaves it out), with `--raft` also the chain with it,
once. The processes take turns, `--rounds` times. Of CPU-seconds the lowest counts, since other work on the machine can
only add to them; a ratio is that of processes in the same round, and its median over the rounds counts. Without VIDEO a
60 s clip of 1280x720 is made from the sample media.

`--data-juicer` takes the interpreter of another environment, in which py-data-juicer is installed, and compares its
motion filter with ours on the first 10 s at 1280x720. `--memory` compares a 2-minute file with a 30-minute one. `--ray`
compares the score stage over the sample dump (or the dump given as VIDEO) in one process, on Ray with one worker and
with two. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from beside import Row, print_json

from reelmill import weights
from reelmill.config import to_dict
from reelmill.curation.scenes import ScenesConfig
from reelmill.curation.scoring import DecodeConfig

DETECT = "ours: cuts, fades and sampled frames"
FLOOR = "floor: PyAV decode + fast bilinear 256x144"
BICUBIC = "floor: PyAV decode + ffmpeg's default scaler"
FFMPEG = "peer: ffmpeg decode + scale 256x144"
SCENEDETECT = "peer: scenedetect detect-content"
CHAIN = "ours: whole chain without RAFT"
START = "ours: starting up the chain, its scorers"
CHILD = "ours: starting up the chain, its child"

DECODE = """
import av, sys
from av.video.reformatter import Interpolation, VideoReformatter
scaler, n = VideoReformatter(), 0
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        n += 1
        if sys.argv[2] != "plain":
            scaler.reformat(frame, 256, 144, "bgr24", interpolation=Interpolation[sys.argv[2]])
"""
EXPAND = """
import json, sys
from pathlib import Path
from reelmill.curation.expanders import video
from reelmill.media.source import Source
path = Path(sys.argv[1])
for body, _ in video.expand(Source(str(path), 0, path.stat().st_size), json.loads(sys.argv[2])):
    if body["type"] == "sample":
        print(body["start_s"])
"""
SCORE = """
import json, sys
from pathlib import Path
from reelmill.compat import one_thread
from reelmill.curation.ledger import PLAN
from reelmill.curation.scoring import ItemScorer
from reelmill.pipelines.curate import recipes
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


CHILDREN = "from reelmill.isolation import child\nfrom reelmill.curation.expanders import image, text, video"

SCORE_STAGE = """
import sys, tempfile
from pathlib import Path
from rich.console import Console
from reelmill.config import to_toml
from reelmill.curation.ledger import CAPTIONS, FAILURES, ITEMS, TIMINGS, VERDICTS, samples_schema
from reelmill.curation.scoring import score_columns
from reelmill.orchestration import score
from reelmill.orchestration.engine import EngineConfig, stop_ray
from reelmill.orchestration.plan import extend_plan
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import write_database
from reelmill.pipelines.curate import recipes
from reelmill.orchestration.stages import StageRunner
from reelmill.tokenize.shards import TOKENS_SCHEMA
dump, executor, workers, items = sys.argv[1:]
recipe = recipes.load("sample")
for name in ("motion_raft", "text"):
    del recipe.score.scorers[name]
recipe.engine = EngineConfig(executor, int(workers))
with tempfile.TemporaryDirectory() as place, RunFolder(Path(place)).lock() as folder:
    folder.commit_text(folder.recipe_path, to_toml(recipe))
    tables = {"items": ITEMS, "samples": samples_schema(score_columns(recipe.score)), "captions": CAPTIONS}
    tables |= {"failures": FAILURES, "timings": TIMINGS, "verdicts": VERDICTS, "tokens": TOKENS_SCHEMA}
    folder.prepare(tables)
    write_database(folder.root)
    extend_plan(folder, Path(dump), recipe.plan, limit=int(items))
    runner = StageRunner(folder, recipe, Console(stderr=True))
    runner.run("score", score.WORKER, score.score_tasks(folder, runner.score_fingerprint))
    stop_ray()
"""
JUICER = """
import sys
from data_juicer.ops.filter.video_motion_score_filter import VideoMotionScoreFilter
from data_juicer.utils.constant import Fields
VideoMotionScoreFilter().compute_stats_single({"videos": [sys.argv[1]], Fields.stats: {}})
"""
METER = """
import ctypes, json, os, resource, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what Ray's processes leave behind is counted too
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
wall = time.perf_counter() - began
try:
    while True:
        os.wait()
except ChildProcessError:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, wall, done.stdout.decode()]))
"""


@dataclass(frozen=True)
class Cost:
    """CPU-seconds of a process and its children, peak MB of the largest of them, and wall seconds."""

    cpu: float
    memory: float
    wall: float
    output: str


def cost(command: list[str]) -> Cost:
    """Run a command, one thread per process."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}  # Ray's default is 15
    done = subprocess.run([sys.executable, "-c", METER, *command], check=True, capture_output=True, env=variables)
    return Cost(*json.loads(done.stdout))


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


def one_pass(video: Path, folder: Path) -> dict[str, list[str]]:
    """Floors, peers, and our single pass, side by side."""
    jobs = {
        "floor: PyAV decode": python(DECODE, str(video), "plain"),
        BICUBIC: python(DECODE, str(video), "BICUBIC"),
    }
    if shutil.which("ffmpeg"):
        scale = ["-vf", "scale=256:144", "-pix_fmt", "rgb24", "-f", "rawvideo", "-y", os.devnull]
        jobs[FFMPEG] = ["ffmpeg", "-threads", "1", "-i", str(video), *scale]
    command = ["-q", "-i", str(video), "-o", str(folder), "detect-content", "list-scenes", "-q"]
    jobs[SCENEDETECT] = [sys.executable, "-m", "scenedetect", *command]
    options = {**to_dict(DecodeConfig()), "scenes": to_dict(ScenesConfig())}
    jobs[DETECT] = python(EXPAND, str(video), json.dumps(options))
    jobs[FLOOR] = python(DECODE, str(video), "FAST_BILINEAR")
    return jobs


def whole_chain(video: Path) -> dict[str, list[str]]:
    """The chain without RAFT, and its processes doing nothing but start."""
    without = "motion_raft aesthetic"
    return {
        CHAIN: python(SCORE, str(video), without),
        START: python(SCORE.partition("path = ")[0] + "scorer.close()", "", without),
        CHILD: python(CHILDREN),
    }


def measure(jobs: dict[str, list[str]], rounds: int) -> dict[str, list[Cost]]:
    """Run the jobs in turn; print all their CPU-seconds and return their costs by job."""
    runs: dict[str, list[Cost]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            runs[name].append(cost(job))
    for name, done in runs.items():
        each = " ".join(f"{run.cpu:.2f}" for run in done)
        lowest, peak = min(run.cpu for run in done), max(run.memory for run in done)
        print(f"{name:46} {lowest:7.2f} CPU-s  {peak:6.0f} MB   ({each})", flush=True)
    return runs


def row(work: str, peer: str, ours: list[Cost], theirs: list[Cost]) -> Row:
    """The lowest CPU-seconds and the highest peaks of both."""
    costs = [min(run.cpu for run in runs) for runs in (ours, theirs)]
    peaks = [max(run.memory for run in runs) for runs in (ours, theirs)]
    return Row(work, peer, "CPU-s", *costs, *peaks)


def compare(what: str, ours: list[float], name: str, others: list[float]) -> None:
    """Print the ratio of two processes, round by round."""
    ratios = [mine / other for mine, other in zip(ours, others, strict=True)]
    print(f"  {what}: {statistics.median(ratios):.2f} x {name}  ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def chain(video: Path, folder: Path, rounds: int, pass_only: bool, raft: bool) -> list[Row]:
    """Floors, peers, ours."""
    jobs = {**one_pass(video, folder), **({} if pass_only else whole_chain(video))}
    measured = measure(jobs, rounds)
    runs = {name: [run.cpu for run in done] for name, done in measured.items()}
    for name in (FLOOR, BICUBIC, FFMPEG, SCENEDETECT):
        if name in runs:
            compare("one pass", runs[DETECT], name, runs[name])
    if not pass_only:
        compare("chain", runs[CHAIN], FLOOR, runs[FLOOR])
        idle = [sum(each) for each in zip(runs[START], runs[CHILD], strict=True)]
        busy = [cpu - spent for cpu, spent in zip(runs[CHAIN], idle, strict=True)]
        compare("chain beside starting up", busy, FLOOR, runs[FLOOR])
    if raft:
        with_raft = {
            "ours: whole chain": python(SCORE, str(video), "aesthetic"),
            "ours: starting up the chain with RAFT": python(
                SCORE.partition("path = ")[0] + "scorer.close()", "", "aesthetic"
            ),
            CHILD: python(CHILDREN),
            FLOOR: jobs[FLOOR],
        }
        whole, *starts, floor = measure(with_raft, 1).values()
        busy = whole[0].cpu - sum(start[0].cpu for start in starts)
        compare("chain with RAFT", [whole[0].cpu], FLOOR, [floor[0].cpu])
        compare("chain with RAFT beside starting up", [busy], FLOOR, [floor[0].cpu])
    peers = {SCENEDETECT: "PySceneDetect's command", FFMPEG: "ffmpeg, decoding and scaling"}
    work = "one pass over 60 s of 720p: cuts, fades, sampled frames"
    return [row(work, peer, measured[DETECT], measured[name]) for name, peer in peers.items() if name in measured]


def memory(folder: Path) -> None:
    """Peak memory of the process that decodes and scores, on 2 and on 30 minutes."""
    short = make_video(folder / "short.mp4", 120)
    long = folder / "long.mp4"
    repeat(short, long, 15)
    peaks = {}
    for name, path in (("2 minutes", short), ("30 minutes", long)):
        peaks[name] = cost(python(SCORE, str(path), "motion_raft aesthetic text")).memory
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


def data_juicer(interpreter: str, folder: Path) -> list[Row]:
    """Data-Juicer's motion filter and ours, with the decoding and cuts that both need."""
    video = make_video(folder / "ten.mp4", 10)
    only_dis = "colourfulness quality motion_jitter text aesthetic motion_raft"
    jobs = {
        "peer: Data-Juicer's video_motion_score_filter": [interpreter, "-c", JUICER, str(video)],
        "ours: one pass with cuts, and motion_dis": python(SCORE, str(video), only_dis),
    }
    theirs, ours = measure(jobs, 1).values()
    return [row("motion of 10 s of 720p; ours with cuts and fades", "Data-Juicer's motion filter", ours, theirs)]


def ray(dump: Path | None, folder: Path) -> None:
    """The score stage over a dump in one process, on Ray with one worker, with two.

    RAFT and text detection are left out, so that the engine's share shows. The first two units stand for starting up.
    """
    if dump is None:
        dump = folder / "dump"
        subprocess.run([sys.executable, "-m", "reelmill", "sample-dump", str(dump)], check=True, capture_output=True)
    for name, how in {"inline": ["inline", "1"], "Ray, 1 worker": ["ray", "1"], "Ray, 2 workers": ["ray", "2"]}.items():
        few, every = (cost(python(SCORE_STAGE, str(dump), *how, items)) for items in ("8", "1000"))
        print(
            f"{name:15} first 8 items {few.cpu:5.1f} CPU-s {few.wall:6.1f} s   all {every.cpu:6.1f} CPU-s"
            f" {every.wall:6.1f} s   difference {every.cpu - few.cpu:6.1f} CPU-s {every.wall - few.wall:6.1f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pass-only", action="store_true")
    parser.add_argument("--raft", action="store_true")
    parser.add_argument("--data-juicer", metavar="PYTHON")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--json", action="store_true", help="rows beside peers as the last line")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if arguments.memory:
            memory(folder)
        elif arguments.ray:
            ray(arguments.video, folder)
        elif arguments.data_juicer:
            rows = data_juicer(arguments.data_juicer, folder)
        else:
            video = arguments.video or make_video(folder / "made.mp4", 60)
            rows = chain(video, folder, max(arguments.rounds, 1), arguments.pass_only, arguments.raft)
    if arguments.json:
        print_json(rows)


if __name__ == "__main__":
    main()
