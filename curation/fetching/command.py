"""A program of one's own that brings what HTTP does not, such as yt-dlp: the URL goes in, a file of media comes out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO

from reelmill.curation.fetching.addresses import Address
from reelmill.curation.fetching.config import MIB, FetchConfig
from reelmill.curation.fetching.outcome import Body, Fetched, NotFetched, refused
from reelmill.errors import brief
from reelmill.media.containers import HEAD
from reelmill.media.kinds import suffix_of

PREFIX = ".command-"
"""How the folder of a program begins; one that is left belongs to a killed run."""
_KEPT = ("PATH", "LANG", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")
"""What the program gets of this process's environment: no keys of whoever runs it."""
_LOOKED_AFTER_S = 0.5
_CHUNK = 1024 * 1024


class Command:
    """Runs the recipe's program, without a shell, in a folder of its own that is gone afterwards."""

    def __init__(self, config: FetchConfig, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._slots = asyncio.Semaphore(config.command_jobs)
        self._most = int(config.max_mb * MIB)

    def is_for(self, address: Address) -> bool:
        """Whether the program is to bring this address."""
        hosts = [host.lower() for host in self._config.command_hosts]
        return not hosts or any(address.host == host or address.host.endswith(f".{host}") for host in hosts)

    async def fetch(self, address: Address) -> Fetched:
        """The largest file of media that the program leaves. NotFetched where it leaves none, or fails."""
        async with self._slots:
            with (
                tempfile.TemporaryDirectory(prefix=PREFIX, dir=self._folder) as place,
                tempfile.TemporaryFile(dir=self._folder) as said,
            ):
                code = await self._run(Path(place), address.url, said)
                if code:
                    said.seek(max(said.tell() - 2000, 0))
                    lines = said.read().decode("utf-8", "replace").strip().splitlines()
                    raise NotFetched(f"command: it ended with {code}: {brief(lines[-1] if lines else 'no message')}")
                return await asyncio.to_thread(self._taken, Path(place))

    async def _run(self, place: Path, url: str, said: IO[bytes]) -> int:
        """Its exit code. NotFetched where it takes too long, or writes too much."""
        fence = [sys.executable, "-m", "reelmill.isolation.fenced", str(place), str(self._most)]
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *fence,
            *self._config.command,
            url,
            cwd=place,
            env={**environment, "HOME": str(place), "TMPDIR": str(place), "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._config.command_s):
                while process.returncode is None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), _LOOKED_AFTER_S)
                    if (size := sum(path.lstat().st_size for path in _files(place))) > 2 * self._most:
                        raise refused(f"too_large: the program wrote {size} bytes, allowed {2 * self._most}")
        except TimeoutError:
            raise NotFetched(f"timeout: the program took longer than {self._config.command_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
            await process.wait()
        assert process.returncode is not None
        return process.returncode

    def _taken(self, place: Path) -> Fetched:
        """The largest file of media as a body. Links are not followed."""
        for path in sorted(_files(place), key=lambda path: path.lstat().st_size, reverse=True):
            with path.open("rb") as file:
                suffix = suffix_of(file.read(HEAD))
                if suffix is None:
                    continue
                file.seek(0)
                body = Body(self._folder, self._most)
                try:
                    while data := file.read(_CHUNK):
                        body.add(data, HEAD)
                except BaseException:
                    body.close()
                    raise
                return Fetched("fetched", suffix=suffix, body=body)
        raise refused("not_media: the program left no picture, video or sound")


def _files(place: Path) -> list[Path]:
    """Regular files below a folder that others write to."""
    found = []
    for path in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(path.lstat().st_mode):
                found.append(path)
    return found
