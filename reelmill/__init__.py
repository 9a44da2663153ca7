"""reelmill: raw web dumps to token shards to one decoder trained by next-token prediction."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a checkout the sub-packages lie beside this folder, as the six root folders; in a wheel they lie inside it.
# CONTRIBUTING.md, "One import package, six root folders", says why.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "curation").is_dir():
    __path__.append(str(_root))
