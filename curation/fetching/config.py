"""How addresses are fetched, as a recipe says it."""

from __future__ import annotations

from dataclasses import dataclass, field

import reelmill
from reelmill.config import at_least
from reelmill.errors import ConfigError

MIB = 1024**2


@dataclass
class FetchConfig:
    """What is fetched of URL tables, how fast, and whose wishes are heard. Changes nothing that was fetched already."""

    enabled: bool = True
    """Whether rows of URL tables are items that are fetched; otherwise they are counted."""
    total: int = 128
    """Requests at a time."""
    per_host: int = 8
    """Requests at a time to one host."""
    host_rate: float = 20.0
    """Requests a second to one host, at most; 0: as fast as it answers."""
    tries: int = 3
    """Attempts for what may be gone in a moment: broken connections, stalls, 408, 425, 429, 5xx."""
    backoff_s: float = 1.0
    """Wait after the first such failure; it doubles. `Retry-After` counts where it is longer."""
    max_wait_s: float = 60.0
    """A host that wants to be left alone for longer than this is left to `--retry`."""
    connect_s: float = 10.0
    """Until a connection stands, encryption included."""
    first_byte_s: float = 20.0
    """From the request to the first byte of the answer, and between two parts of it."""
    total_s: float = 600.0
    """For one attempt."""
    max_mb: float = 1024.0
    """MiB of one body."""
    redirects: int = 5
    """Redirects that are followed, each checked as the first address."""
    user_agent: str = f"reelmill/{reelmill.__version__}"
    """What the fetcher calls itself; robots.txt is asked for the part before the slash."""
    robots: bool = True
    """Whether robots.txt is asked."""
    opt_outs: bool = True
    """Whether `X-Robots-Tag: noai`, `noimageai`, `tdm-reservation: 1` and /.well-known/tdmrep.json are honored; what
    answers say is recorded anyway."""
    min_side: int = 0
    """Pixels of the shorter side; what a table states to be smaller is not fetched."""
    check_digest: bool = True
    """Whether bytes must have the SHA-256 or MD5 that their table states."""
    allow_private: bool = False
    """Whether addresses of intranets and of this machine may be reached."""
    command: list[str] = field(default_factory=list)
    """A program of one's own, such as ["yt-dlp", "-f", "mp4"]: it is given the URL and leaves a file of media."""
    command_hosts: list[str] = field(default_factory=list)
    """Hosts, with those below them, that the program is for; empty: all."""
    command_s: float = 900.0
    """How long the program may take."""
    command_jobs: int = 4
    """Programs at a time."""


def check(config: FetchConfig) -> None:
    """Raise ConfigError for numbers that cannot be."""
    at_least(
        "fetch", config, total=1, per_host=1, host_rate=0, tries=1, backoff_s=0, max_wait_s=0, redirects=0, min_side=0
    )
    at_least("fetch", config, connect_s=0.001, first_byte_s=0.001, total_s=0.001)
    at_least("fetch", config, max_mb=0.001, min_side=0, command_s=0.001, command_jobs=1)
    if not config.user_agent.isascii() or not config.user_agent.isprintable() or not config.user_agent.strip():
        raise ConfigError(f"fetch.user_agent is {config.user_agent!r}; it must be printable ASCII")
