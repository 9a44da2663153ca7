"""Fetch a source distribution from the package index that pip is configured for, running none of its code.

`pip download` would build the distribution's metadata, which runs its build script. Here pip's own finder, with pip's
settings and session, finds the archive, and its bytes are copied. pip promises nothing about these internals, so this
runs as a child process, `python -m reelmill.sdist PACKAGE VERSION FILE`, and a failure is an exit code with a reason.
Tried with pip 23.2, 24.0 and 26.3.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def download(package: str, version: str, target: Path) -> None:
    """Write the archive of `package` `version` to `target`; SystemExit with a line that says what is wrong."""
    from pip._internal.commands.download import DownloadCommand
    from pip._internal.network.utils import HEADERS

    command: Any = DownloadCommand("download", "")
    options, _ = command.parse_args(["--no-binary=:all:", "--no-input", "--quiet", "--retries=1"])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options=options, session=session, ignore_requires_python=True)
        found = [c.link for c in finder.find_all_candidates(package) if str(c.version) == version]
        if not found:
            sys.exit(f"ERROR: the package index has no source distribution of {package}=={version}")
        with session.get(found[-1].url_without_fragment, headers=HEADERS, stream=True) as response:
            response.raise_for_status()
            with target.open("wb") as out:
                for chunk in response.iter_content(_CHUNK):
                    out.write(chunk)


if __name__ == "__main__":
    download(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
