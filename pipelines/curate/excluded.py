"""Lists of texts that `--exclude` names: a scorer that looks for them, and the rule that rejects what holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reelmill.curation.rules import Rule
from reelmill.curation.texts.prompt_lists import ENDINGS, digest
from reelmill.orchestration.recipe import Recipe

SCORER = RULE = "contamination"


def is_list(path: Path) -> bool:
    """Whether a path is meant as a list of texts, and not as a run folder."""
    return path.suffix.lower() in ENDINGS and not path.is_dir()


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
