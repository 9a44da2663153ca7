"""`OUT/report/index.html`: one page with everything in it; and `OUT/README.md`, the dataset card."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import reelmill
from reelmill.files import write_text
from reelmill.orchestration.recipe import Recipe, load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report import (
    card,
    charts,
    clusters,
    floor,
    gather,
    narration_page,
    pairs,
    sheets,
    thresholds,
    veiled,
)
from reelmill.pipelines.report.embedding_map import embedding_map
from reelmill.pipelines.report.pictures import Pictures


@dataclass(frozen=True)
class Written:
    """What `write_report` made."""

    page: Path
    card: Path
    bytes: int
    tiles: int
    pairs: int


def write_report(out: Path, beside: str = "") -> Written:
    """Write the page and the card of a run folder; nothing else in it changes.

    Clips are decoded anew from the dump; where it is gone, tiles say so. `beside`: `pairs.pairs`.
    """
    folder = RunFolder(out).require()
    recipe = load_recipe(folder.root)
    run = gather.run_facts(folder.root)
    with LedgerQueries(folder.root) as ledger, Pictures(folder, recipe.score) as pictures:
        found = gather.numbers(ledger, recipe.rules, run.get("tokens_fingerprint", ""))
        shares = gather.quota_shares(ledger, recipe.quotas)
        figures = thresholds.figures(ledger, recipe.rules)
        kept = sheets.kept(ledger, pictures)
        rejected = sheets.rejected(ledger, recipe.rules, pictures)
        copies = clusters.clusters(ledger, pictures)
        mapped = embedding_map(folder, ledger)
        shown = pairs.pairs(ledger, recipe.tokens, run, pictures, beside)
        told = narration_page.told(ledger, out, pictures)
        tiles = [*kept, *rejected, *chain.from_iterable(copies["shown"]), *shown["pairs"], *chain(*told.values())]
        hidden = veiled.veiled(ledger, (tile["sample_id"] for tile in tiles))
        decoding = floor.measure(ledger, pictures) if found["timings"] else None
    page = render(
        name=folder.root.name,
        recipe=recipe,
        run=run,
        found=found,
        figures=figures,
        shares=shares,
        kept=kept,
        rejected=rejected,
        copies=copies,
        mapped=mapped,
        pairs=shown,
        told=told,
        veiled=hidden,
        floor=decoding,
    )
    target, readme = folder.root / "report" / "index.html", folder.root / "README.md"
    write_text(target, page)
    write_text(readme, card.markdown(folder.root, recipe, run, found))
    return Written(target, readme, len(page.encode()), len(kept) + len(rejected), len(shown["pairs"]))


def render(*, recipe: Recipe, figures: list[thresholds.RuleFigure], found: dict[str, Any], **facts: Any) -> str:
    """The page as text. Everything from the dump goes through Jinja's escaping."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(thousands=_thousands, number=charts.number, duration=_duration, size=_size)
    environment.globals["histogram"] = charts.histogram
    script = _part("page.js")
    return environment.from_string(_part("template.html.j2")).render(
        recipe=recipe,
        figures=figures,
        movable={figure.name: _movable(figure) for figure in figures},
        bounds=card.bounds(recipe),
        limits=card.limits(found),
        found=found,
        most_a_rule=sheets.REJECTED_A_RULE,
        version=reelmill.__version__,
        style=Markup(_part("style.css")),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (our own file)
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **facts,
    )


def _movable(figure: thresholds.RuleFigure) -> dict[str, Any]:
    """What the sliders need of a rule."""
    return {
        "steps": figure.steps,
        "places": [round(figure.position(step), 4) for step in figure.steps],
        "sure": figure.sure,
        "open": figure.open,
        "min": _index(figure.steps, figure.rule.min),
        "max": _index(figure.steps, figure.rule.max),
    }


def _index(steps: list[float], bound: float | None) -> int | None:
    return None if bound is None else steps.index(bound)


def _part(name: str) -> str:
    return files("reelmill.pipelines.report").joinpath(name).read_text(encoding="utf-8")


def _thousands(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB"
