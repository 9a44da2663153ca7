"""What `--exclude` names: lists of texts, for which a scorer looks and a rule rejects; pictures and videos, which are
hashed into a run folder of their own; lists of hashes and run folders as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from reelmill.curation.duplicates import hash_lists
from reelmill.curation.rules import Rule
from reelmill.curation.scoring import score_columns
from reelmill.curation.texts.prompt_lists import ENDINGS, digest
from reelmill.errors import ConfigError
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.curate.run import EXCLUDED, CurateOptions, curate
from reelmill.terminal import say

SCORER = RULE = "contamination"
_LOOKS = "phash"


def is_list(path: Path) -> bool:
    """Whether a path is meant as a list of texts, and not as pictures, a list of hashes or a run folder."""
    return path.suffix.lower() in ENDINGS and not path.is_dir() and not _holds_pictures(path)


def places_of(out: Path, paths: Sequence[Path], recipe: Recipe) -> dict[Path, Path]:
    """What each path that is no list of texts is compared by: a run folder or a list of hashes itself, other places by
    the run folder of their hashes in `out`.

    Raises ConfigError where two places have one name, or the recipe has no hashes to compare pictures by.
    """
    found: dict[Path, Path] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        if RunFolder(path).exists() or hash_lists.is_hash_list(path):
            found[path] = path
            continue
        place = out.resolve() / EXCLUDED / (path.name if path.is_dir() else path.stem)
        if place in found.values():
            raise ConfigError(f"two --exclude are named {place.name}, by which rejected samples are told; rename one")
        if _LOOKS not in score_columns(recipe.score):
            raise ConfigError(f"--exclude {path}: pictures are compared by their hashes; add [score.scorers.{_LOOKS}]")
        found[path] = place
    return found


def hash_places(places: Mapping[Path, Path], recipe: Recipe, console: Console) -> None:
    """Bring the run folders of pictures and videos up to date: their hashes and nothing else. Raises as `curate`."""
    score = replace(recipe.score, scorers={_LOOKS: {}})
    nothing = {"hashed": Rule("width", max=0.0, stage="hashed", kinds=["video", "image"])}
    bare = Recipe(name="excluded", plan=recipe.plan, score=score, engine=recipe.engine, rules=nothing)
    for path, place in places.items():
        if path != place:
            say(console, f"{path}: pictures and videos that must not be trained on", head="exclude")
            curate([path], place, bare, CurateOptions(update=True), console)


def _holds_pictures(path: Path) -> bool:
    """Whether a file is a Parquet table with bytes in a column, as `datasets` writes pictures."""
    if path.suffix.lower() != ".parquet":
        return False
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False  # whoever reads it says what is wrong
    return any(_is_bytes(field.type) for field in schema)


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def without_lists(recipe: Recipe, lists: Sequence[Path]) -> Recipe:
    """The recipe, by which what holds a text of these lists is rejected before any other rule is asked.

    The lists' hashes belong to the recipe: a list that changes is another recipe. Raises ConfigError for a list that
    cannot be read.
    """
    paths = list(dict.fromkeys(path.resolve() for path in lists))
    options = {"lists": [str(path) for path in paths], "digests": [digest(path) for path in paths]}
    scorers = {**recipe.score.scorers, SCORER: {**recipe.score.scorers.get(SCORER, {}), **options}}
    holds = "(contaminated_by IS NOT NULL)::INTEGER"
    rule = Rule(holds, max=0.0, stage="duplicates", kinds=["video", "image", "text"], null="keep")
    rules = {RULE: rule, **recipe.rules}
    return replace(recipe, score=replace(recipe.score, scorers=scorers), rules=rules)
