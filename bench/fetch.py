"""Fetching beside img2dataset: the same table, the same pictures, the same server on this machine.

    python bench/fetch.py [--images 10000] [--rounds 3] [--img2dataset PYTHON] [--json]
    python bench/fetch.py --lossless 100000 [--json]

`--img2dataset` names a Python that has img2dataset, in an environment of its own. Both keep the bytes as they are, with
64 requests at a time to one host, as fast as it answers, and robots.txt is not asked. They take turns, `--rounds` times
over, so that other work on the machine meets both; what is printed is the median. The clock runs over whole processes,
start included; memory is the most that a process and its children held together, asked every 50 ms.

`--lossless`: so many URLs of which a twentieth is gone (404) and as many answer 503 once; the process is killed twice
on the way. Afterwards each URL has one row, and each picture the bytes that belong to its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import ClassVar

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from beside import print_figures
from PIL import Image

AT_A_TIME = 64
GONE, BUSY = 20, 19
"""Of so many URLs one is gone, or busy once."""
THEIRS = """
import sys
from img2dataset import download
table, out, processes = sys.argv[1:]
download(url_list=table, input_format="parquet", url_col="url", caption_col="caption", output_folder=out,
    output_format="webdataset", processes_count=int(processes), thread_count=64 // int(processes),
    resize_mode="no", disable_all_reencoding=True, compute_hash="sha256", timeout=10, retries=0,
    number_sample_per_shard=1000, enable_wandb=False)
"""


def picture(number: int) -> bytes:
    """The bytes behind a URL: one of 16 pictures of about 30 KB, with the URL's number at its end."""
    return _PICTURES[number % 16] + number.to_bytes(8, "big")


def _pictures() -> list[bytes]:
    import io

    import numpy as np

    made = []
    for seed in range(16):
        noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((512, 384), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


_PICTURES = _pictures()


class Answering(asyncio.Protocol):
    """HTTP/1.1 as far as both need it."""

    asked: ClassVar[set[int]] = set()
    faults = False

    def connection_made(self, transport):
        self.transport, self.read = transport, b""

    def data_received(self, data):
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, self.read = self.read.partition(b"\r\n\r\n")
            number = int(head.split(b" ", 2)[1].strip(b"/").partition(b".")[0] or 0)
            if self.faults and number % GONE == 0:
                self.transport.write(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")
            elif self.faults and number % BUSY == 0 and number not in self.asked:
                self.asked.add(number)
                self.transport.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")
            else:
                body = picture(number)
                kind = b"Content-Type: image/jpeg"
                self.transport.write(b"HTTP/1.1 200 OK\r\n%s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)) + body)


async def serve(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, sock=listener)
    await server.serve_forever()


@contextmanager
def server(faults: bool):
    """A server in a process of its own; its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, __file__, "--serve", str(descriptor), *(["--faults"] if faults else [])]
        running = subprocess.Popen(command, pass_fds=[descriptor])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


def write_table(path: Path, url: str, count: int) -> Path:
    urls = [f"{url}/{n}.jpg" for n in range(count)]
    pq.write_table(pa.table({"url": urls, "caption": [f"picture number {n}" for n in range(count)]}), path)
    return path


def fetch(table: Path, out: Path) -> None:
    """The first two stages of `reelmill curate`, in this process."""
    from reelmill.curation.fetching.config import FetchConfig
    from reelmill.curation.ledger import FETCHES, ITEMS
    from reelmill.orchestration import fetch
    from reelmill.orchestration.plan import PlanConfig, extend_plan
    from reelmill.orchestration.runfolder import RunFolder

    many = {"total": AT_A_TIME, "per_host": AT_A_TIME, "host_rate": 0.0}
    config = FetchConfig(allow_private=True, robots=False, backoff_s=0.01, **many)
    with RunFolder(out).lock() as folder:
        folder.prepare({"fetches": FETCHES, "items": ITEMS})
        extend_plan(folder, table, PlanConfig())
        for _ in fetch.fetch_units(folder, config, {"image"}, fetch.fetch_tasks(folder)):
            pass


def measured(command: list[str], **options) -> dict[str, float]:
    """Wall and CPU seconds of a command, MB that its processes held together at most."""
    began = time.monotonic()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    most, cpu = 0, {}
    while process.poll() is None:
        held = 0
        for one in [process, *_children(process)]:
            try:
                held += one.memory_info().rss
                cpu[one.pid] = sum(one.cpu_times()[:2])
            except psutil.Error:
                continue
        most = max(most, held)
        time.sleep(0.05)
    assert process.returncode == 0, (command, process.returncode)
    return {"seconds": time.monotonic() - began, "cpu_s": sum(cpu.values()), "megabytes": most / 1e6}


def _children(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def beside(place: Path, images: int, python: str, rounds: int) -> dict[str, dict[str, float]]:
    """Both on the same table, in turns; the median of each figure."""
    measures: dict[str, list[dict[str, float]]] = {}
    with server(False) as url:
        table = write_table(place / "table.parquet", url, images)
        for turn in range(rounds):
            out = place / f"ours-{turn}"
            measures.setdefault("reelmill", []).append(
                measured([sys.executable, __file__, "--fetch", str(table), str(out)])
            )
            assert rows(out)[0] == images
            shutil.rmtree(out)
            for processes in (1, 2) if python else ():
                name = f"img2dataset, processes_count={processes}"
                measures.setdefault(name, []).append(theirs(place, table, images, python, processes))
    found = {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in measures.items()}
    for row in found.values():
        row["images_per_s"] = images / row["seconds"]
        row["images_per_cpu_s"] = images / row["cpu_s"]
    return found


def theirs(place: Path, table: Path, images: int, python: str, processes: int) -> dict[str, float]:
    """img2dataset on the table."""
    out = place / "theirs"
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    found = measured([python, "-c", THEIRS, str(table), str(out), str(processes)], env=environment)
    came = sum(json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json"))
    assert came == images, (processes, came)
    shutil.rmtree(out)
    return found


def rows(out: Path) -> tuple[int, dict]:
    """How many were fetched, and the rows by URL's number."""
    tables = [pq.read_table(path) for path in sorted((out / "fetched").glob("*.parquet"))]
    by_number = {}
    for row in pa.concat_tables(tables).to_pylist():
        number = int(row["url"].rpartition("/")[2].partition(".")[0])
        assert number not in by_number, "a URL with two rows"
        by_number[number] = row
    return sum(row["outcome"] == "fetched" for row in by_number.values()), by_number


def lossless(place: Path, urls: int) -> dict[str, float]:
    """So many URLs, some gone or busy, through two kills."""
    out = place / "out"
    with server(True) as url:
        table = write_table(place / "table.parquet", url, urls)
        command = [sys.executable, __file__, "--fetch", str(table), str(out)]
        began, kills = time.monotonic(), 0
        while kills < 2:
            running = subprocess.Popen(command)
            wanted = (kills + 1) * urls // 256  # units of 64: a quarter of all more
            while running.poll() is None and len(list((out / "fetched").glob("*.parquet"))) < wanted:
                time.sleep(0.2)
            running.send_signal(signal.SIGKILL)
            kills += running.wait() == -signal.SIGKILL
        last = measured(command)
        seconds = time.monotonic() - began
    _, by_number = rows(out)
    assert sorted(by_number) == list(range(urls)), "a URL without a row"
    wrong = 0
    for number, row in by_number.items():
        gone = number % GONE == 0
        right = hashlib.sha256(picture(number)).hexdigest()
        wrong += row["outcome"] != ("failed" if gone else "fetched") or (not gone and row["sha256"] != right)
        if not gone and number % 97 == 0:
            with (out / "fetched" / row["tar"]).open("rb") as tar:
                tar.seek(row["offset"])
                wrong += tar.read(row["bytes"]) != picture(number)
    assert not wrong, f"{wrong} rows are not what they should be"
    return {
        "urls": urls,
        "kills": kills,
        "seconds": seconds,
        "urls_per_s": urls / seconds,
        "megabytes": last["megabytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--img2dataset", default="", metavar="PYTHON")
    parser.add_argument("--lossless", type=int, default=0, metavar="URLS")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--faults", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fetch", nargs=2, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        Answering.faults = asked.faults
        asyncio.run(serve(socket.socket(fileno=asked.serve)))
        return
    if asked.fetch:
        fetch(*asked.fetch)
        return
    with tempfile.TemporaryDirectory(prefix="reelmill-fetch-") as place:
        if asked.lossless:
            found = {"reelmill": lossless(Path(place), asked.lossless)}
        else:
            found = beside(Path(place), asked.images, asked.img2dataset, asked.rounds)
    print_figures(found, asked.json)


if __name__ == "__main__":
    main()
