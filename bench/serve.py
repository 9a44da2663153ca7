"""Does `reelmill serve` hold up under many clients at once? Failures, latencies and memory of its process.

    python bench/serve.py [CHECKPOINT] [--clients 50] [--rounds 6] [--size 64x64] [--seconds 150]

Starts `reelmill serve` on a free port of this machine (without CHECKPOINT: recipe `tiny`, trained for two steps), then
in each round CLIENTS requests at once through the `openai` client: pictures whole and as streams with previews, with
and without guidance, words, words about a picture. One in ten leaves in the middle of its stream. After each round:
failures, the time that half and 95 % of them took, tokens drawn, resident memory, threads and open files of the server.
The first round is warm-up; the verdict compares the last with the second. It stops by itself after SECONDS.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import openai
from PIL import Image

from reelmill.tokenize import documents, vision
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.run import train

PIXELS = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)


def small_checkpoint(folder: Path) -> Path:
    """A model of 1.6 M parameters after a few steps: its output is noise, its cost is realistic."""
    vocab, fingerprint = Vocabulary("bytes", 4096), vision.load("reelmill-tok-xs").fingerprint
    tokens = documents.image_document(vocab, np.arange(6).reshape(2, 3), "six codes")
    row = document_row(vocab, tokens, sample_id="s", item_id="i", fingerprint=fingerprint)
    shards = folder / "out" / "tokens" / fingerprint[:12]
    shards.mkdir(parents=True)
    write_shard(shards / "unit-000000.parquet", [row], vocab, fingerprint)
    model = ModelConfig(hidden=128, layers=4, heads=4, kv_heads=2, mlp=384)
    config = TrainConfig(model=model, data=DataConfig(context=64, batch_rows=1, heldout=0.0), steps=2)
    train(config, [folder / "out"], folder / "run")
    return folder / "run"


async def one(client: openai.AsyncOpenAI, model: str, size: str, number: int) -> str:
    """One request, of a kind that depends on its number; returns the outcome."""
    picture = {"model": model, "prompt": f"request {number}", "size": size}
    kind = number % 5
    if kind == 0:
        await client.images.generate(**picture)
    elif kind in (1, 2):
        body = {"guidance": 3.0} if kind == 2 else {}
        stream = await client.images.generate(**picture, stream=True, partial_images=4, extra_body=body)
        async with stream:
            async for _ in stream:
                if number % 10 == 1:
                    return "left"
    else:
        content: list = [{"type": "text", "text": f"Request {number}?"}]
        if kind == 4:
            data = io.BytesIO()
            Image.fromarray(PIXELS).save(data, "PNG")
            uri = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
            content.insert(0, {"type": "image_url", "image_url": {"url": uri}})
        messages = [{"role": "user", "content": content}]
        stream = await client.chat.completions.create(model=model, messages=messages, max_tokens=48, stream=True)
        async for _ in stream:
            pass
    return "done"


async def timed(client: openai.AsyncOpenAI, model: str, size: str, number: int) -> tuple[str, float]:
    began = time.monotonic()
    try:
        outcome = await one(client, model, size, number)
    except openai.APIError as error:
        outcome = f"failed: {error}"
    return outcome, time.monotonic() - began


def measure(process: int) -> dict[str, int]:
    """Resident MiB, threads and open files of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    files = sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    return {"mib": int(status["VmRSS"].split()[0]) // 1024, "threads": int(status["Threads"]), "files": files}


async def load(url: str, process: int, clients: int, rounds: int, size: str, seconds: float) -> int:
    """All rounds; returns how many requests failed."""
    client = openai.AsyncOpenAI(base_url=f"{url}v1", api_key="none", max_retries=0, timeout=seconds)
    model = (await client.models.list()).data[0].id
    began, failures, sizes = time.monotonic(), 0, []
    print(f"before: {measure(process)}", flush=True)
    for number in range(rounds):
        if time.monotonic() - began > seconds:
            print(f"stopped after {number} rounds: {seconds:g} s are over")
            break
        start = time.monotonic()
        jobs = [timed(client, model, size, number * clients + place) for place in range(clients)]
        outcomes = await asyncio.gather(*jobs)
        took = sorted(duration for _, duration in outcomes)
        failed = [outcome for outcome, _ in outcomes if outcome.startswith("failed")]
        failures += len(failed)
        await asyncio.sleep(1)
        now = measure(process)
        sizes.append(now["mib"])
        print(
            f"round {number}: {clients} at once in {time.monotonic() - start - 1:.1f} s, half within "
            f"{statistics.median(took):.1f} s, 95 % within {took[int(0.95 * len(took))]:.1f} s, "
            f"{len(failed)} failed, {sum(outcome == 'left' for outcome, _ in outcomes)} left; {now}",
            flush=True,
        )
        for words in set(failed):
            print(f"  {words}")
    if len(sizes) > 2:
        print(f"from the second round to the last: {sizes[-1] - sizes[1]:+d} MiB")
    print(f"{failures} failed")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--seconds", type=float, default=150)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or small_checkpoint(Path(folder))
        command = [
            sys.executable,
            "-m",
            "reelmill",
            "serve",
            checkpoint,
            "--port",
            "0",
            "--out",
            f"{folder}/drawn",
            "--gallery",
            "20",
        ]
        server = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        try:
            url = next(line for line in server.stdout if line.startswith("http")).strip()
            failures = asyncio.run(load(url, server.pid, args.clients, args.rounds, args.size, args.seconds))
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
