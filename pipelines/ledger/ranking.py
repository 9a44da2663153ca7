"""The best share of what a selection keeps, by the mean of several scores: which rules say so.

Scores have scales of their own (HPSv2.1 about 15 to 35, MPS and LAION's aesthetics about 1 to 15 and 1 to 10), so each
is measured in standard deviations from its mean over the ranked samples of the same kind. A sample's rank is the mean
of those that it has. (Emu3, section 2.5.1, ranks by the mean of the three and does not say on which scales.) Means,
deviations and the bound are written into the rules as numbers: what comes later is judged by them too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from reelmill.config import nearest
from reelmill.curation.decide import decide
from reelmill.curation.rules import quoted
from reelmill.errors import ConfigError
from reelmill.orchestration.recipe import Recipe
from reelmill.orchestration.views import LedgerQueries

SCORES = ("hps_score", "mps_score", "aesthetic_score")
"""What Emu3 ranks images by."""
RULES = {"image": "image_rank", "video": "video_rank"}


@dataclass(frozen=True)
class Ranking:
    """Keep the best `share` by the mean of `scores`, of images and videos each."""

    share: float
    scores: tuple[str, ...] = SCORES

    def check(self) -> None:
        """Raise ConfigError for a share that keeps nothing, or no scores."""
        if not 0 < self.share <= 1:
            raise ConfigError(f"--keep is {self.share:g}; it must be a share above 0 and at most 1.")
        if not self.scores:
            raise ConfigError("there is no score to rank by; name one with --score.")


@dataclass(frozen=True)
class Ranked:
    """How one kind was ranked: `scores` has name, count, mean and deviation of each that was there."""

    kind: str
    samples: int
    bound: float
    scores: list[dict[str, Any]]
    expr: str

    def assignments(self) -> list[str]:
        """The rule."""
        rule = f"rules.{RULES[self.kind]}"
        kinds = f'{rule}.kinds=["{self.kind}"]'
        return [f'{rule}.expr="{self.expr}"', f"{rule}.min={self.bound!r}", f'{rule}.stage="looks"', kinds]


def rank(ledger: LedgerQueries, recipe: Recipe, ranking: Ranking, columns: Collection[str]) -> list[Ranked]:
    """How images and videos that pass the recipe's rules are ranked; `columns` are those of the samples.

    Raises ConfigError for a score that is no column where the user named it, and where no sample has any score.
    """
    ranking.check()
    found = [name for name in ranking.scores if name in columns]
    unknown = [name for name in ranking.scores if name not in columns and name not in SCORES]
    if unknown:
        raise ConfigError(f"no column {unknown[0]!r} to rank by; {nearest(unknown[0], columns)}")
    connection = ledger.connection("items", "scored")
    connection.register("passing", decide(connection, recipe.rules, recipe.licences))
    ranked = [one for kind in RULES if (one := _of_kind(ledger, kind, found, ranking.share)) is not None]
    if not ranked:
        raise ConfigError(
            f"none of the samples that pass the rules has a score of {', '.join(ranking.scores)}; `reelmill models "
            "list` shows the weights they need, and --score ranks by other columns, such as quality_score."
        )
    return ranked


def _of_kind(ledger: LedgerQueries, kind: str, scores: Sequence[str], share: float) -> Ranked | None:
    """The ranking of one kind; None where none of its samples has a score that tells them apart."""
    passing = f"scored JOIN passing USING (sample_id) WHERE status = 'kept' AND kind = {quoted(kind)}"
    stats = []
    for score in scores:
        (row,) = ledger.rows(
            f"SELECT '{score}' AS score, count({score}) AS samples, avg({score}) AS mean, "
            f"stddev_pop({score}) AS deviation FROM {passing}"
        )
        if row["deviation"]:
            stats.append(row)
    if not stats:
        return None
    terms = [f"({row['score']} - {row['mean']!r}) / {row['deviation']!r}" for row in stats]
    expr = f"list_avg([{', '.join(terms)}])"  # NULLs do not count in it
    (row,) = ledger.rows(
        f"SELECT count({expr}) AS samples, quantile_cont({expr}, {1 - share!r}) AS bound FROM {passing}"
    )
    return Ranked(kind, row["samples"], row["bound"], stats, expr)
