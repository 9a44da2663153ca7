"""reelmill: raw web dumps to token shards to one decoder trained by next-token prediction.

The names below are the public interface of Python (docs/python.md), with the command line. What else there is to import
is internal and may change, but for what CONTRIBUTING.md shows to those who extend it (a scorer, a captioner, a reader).
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelmill.pipelines.api.batches import Batch, Batches, batches
    from reelmill.pipelines.api.curating import curate
    from reelmill.pipelines.api.run import Document, Run, open_run
    from reelmill.pipelines.api.scoring import score

__version__ = "0.1.0"
__all__ = ["Batch", "Batches", "Document", "Run", "__version__", "batches", "curate", "open_run", "score"]

# In a checkout the sub-packages lie beside this folder, as the six root folders; in a wheel they lie inside it.
# CONTRIBUTING.md, "One import package, six root folders", says why.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "curation").is_dir():
    __path__.append(str(_root))

_MODULES = {
    "Batch": "batches",
    "Batches": "batches",
    "batches": "batches",
    "curate": "curating",
    "Document": "run",
    "Run": "run",
    "open_run": "run",
    "score": "scoring",
}
"""Where a public name lies in `reelmill.pipelines.api`. Imported when it is asked for: `import reelmill` is light."""


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"reelmill.pipelines.api.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
