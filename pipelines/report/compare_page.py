"""`reelmill compare --page`: what two run folders or selections say otherwise, sample by sample, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import reelmill
from reelmill.files import write_text
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report import charts
from reelmill.pipelines.report.pictures import Pictures
from reelmill.pipelines.report.veiled import veiled

_KNOWN = """SELECT sample_id, item_id, kind, start_s, end_s, width, height FROM scored
WHERE list_contains($1, sample_id)"""
_NONE = ItemFailed("item", "no_frames: nothing could be decoded")


def write_page(found: Mapping[str, Any], folders: tuple[Path, Path], names: tuple[str, str], target: Path) -> None:
    """Write what `compare` found (its fields by name) as one page, with pictures of the samples that it lists.

    `folders`: the two run folders, `names` what the page calls them. A sample is decoded anew from the dump of the
    second folder, or of the first where the second does not have it.
    """
    ids = [row["sample_id"] for row in found["samples"]]
    seen: dict[str, Any] = {}
    hidden: dict[str, float] = {}
    for out in dict.fromkeys(reversed(folders)):
        pictures, unsafe = _look(out, [sample_id for sample_id in ids if sample_id not in seen])
        seen |= pictures
        hidden |= unsafe
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(thousands=lambda value: f"{value:,}", number=charts.number)
    before, after = names
    page = environment.from_string(_part("compare.html.j2")).render(
        before=before,
        after=after,
        totals=found["totals"],
        verdicts=found["verdicts"],
        samples=[{**row, **_shown(seen.get(row["sample_id"], _NONE))} for row in found["samples"]],
        veiled=hidden,
        version=reelmill.__version__,
        style=Markup(_part("style.css")),  # noqa: S704  (our own file)
    )
    write_text(target, page)


def _look(out: Path, ids: Sequence[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Thumbnails of those of the samples that a run folder has, and which of them are to be hidden."""
    folder = RunFolder(out).require()
    with LedgerQueries(folder.root) as ledger:
        rows, hidden = ledger.rows(_KNOWN, [list(ids)]), veiled(ledger, ids)
    with Pictures(folder, load_recipe(folder.root).score) as pictures:
        return pictures.thumbnails(rows), hidden


def _shown(seen: Any) -> dict[str, Any]:
    if isinstance(seen, ItemFailed):
        return {"problem": seen.reason}
    return {"excerpt": seen} if isinstance(seen, str) else {"strip": seen}


def _part(name: str) -> str:
    return files("reelmill.pipelines.report").joinpath(name).read_text(encoding="utf-8")
