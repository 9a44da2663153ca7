"""`OUT/README.md`, the dataset card: what a run folder holds, where it comes from, what it must not be taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelmill.files import write_text
from reelmill.orchestration.recipe import Recipe, load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.report import gather, hub
from reelmill.pipelines.report.charts import number

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>#|~!"})


def refresh(folder: RunFolder, name: str = "") -> None:
    """Write the card of a run folder, unless there is one that is not ours; `name`: what the folder will be called."""
    path = folder.root / "README.md"
    if path.is_file() and hub.MARK not in path.read_text(encoding="utf-8", errors="replace"):
        return
    recipe, run = load_recipe(folder.root), gather.run_facts(folder.root)
    with LedgerQueries(folder.root) as ledger:
        found = gather.numbers(ledger, recipe.rules, run.get("tokens_fingerprint", ""))
    write_text(path, markdown(folder.root, recipe, run, found, name))


def limits(numbers: Mapping[str, Any]) -> list[str]:
    """What a user of the data must know, as sentences; `numbers` are `gather.numbers`."""
    totals = numbers["totals"]
    found = [
        "Scores are measurements of pixels (motion, text area, sharpness, color), not judgments of meaning.",
        "Duplicates are found by SHA-256 of the item; near duplicates stay.",
        "Licences and sources are what sidecars, pages and files state; nobody checked them. No filter for safety or "
        "personal data has run.",
    ]
    if totals["without_aesthetic_score"]:
        found.append(
            f"The aesthetic rule was off for {totals['without_aesthetic_score']:,} kept samples: its weights were "
            "missing."
        )
    if totals["undecided"]:
        found.append(f"{totals['undecided']:,} samples wait for a score and are in neither part.")
    if any(row["name"] == "facts" for row in numbers["tokens"]["caption"]):
        found.append('Captions of source "facts" are sentences made of measured columns; no model saw the picture.')
    return found


def bounds(recipe: Recipe) -> list[dict[str, str]]:
    """Rules as rows: name, what is measured, kept when, for which kinds."""
    rows = []
    for name, rule in recipe.rules.items():
        low = f"≥ {number(rule.min)}" if rule.min is not None else ""
        high = f"≤ {number(rule.max)}" if rule.max is not None else ""
        keep = " and ".join(filter(None, (low, high))) + (" or unknown" if rule.null == "keep" else "")
        rows.append({"name": name, "expr": rule.expr, "keep": keep, "kinds": ", ".join(rule.kinds)})
    return rows


def markdown(root: Path, recipe: Recipe, run: Mapping[str, Any], found: Mapping[str, Any], name: str = "") -> str:
    """The card of the run folder `root`, under another name where one is given. Words from the dump are escaped."""
    name = name or root.name
    totals, tokens = found["totals"], found["tokens"]
    tokenizer = run.get("vision_tokenizer", {})
    facts = [
        ("Items read", f"{totals['items'] - totals['refused']:,} of {totals['items']:,}"),
        ("Samples", f"{totals['samples']:,}: {totals['kept']:,} kept, {totals['rejected']:,} rejected"),
        ("Kept", f"{totals['kept_videos']:,} clips ({totals['kept_s'] / 3600:.3g} h), "
                 f"{totals['kept_images']:,} images, {totals['kept_texts']:,} texts"),
        ("Documents", f"{totals['documents']:,}"),
        ("Tokens", f"{totals['tokens']:,}, of which {totals['vision']:,} are codes"),
        ("Recipe", recipe.name),
        ("Text tokenizer", recipe.tokens.text),
        ("Vision tokenizer", f"{recipe.tokens.tokenizer} ({str(tokenizer.get('fingerprint', 'not recorded'))[:12]})"),
        ("Frames", f"{recipe.tokens.area:,} pixels, {recipe.tokens.fps:g} frames/s, at most "
                   f"{recipe.tokens.max_latent_frames} latent frames per document"),
        ("Made by", f"reelmill {run.get('reelmill', '')}".strip()),
    ]  # fmt: skip
    rules = [(f"`{row['name']}`", f"`{row['expr']}`", row["keep"], row["kinds"]) for row in bounds(recipe)]
    counts = ("items", "copyrighted", "c2pa")
    stated = [(row["name"], *(f"{row[name]:,}" for name in counts)) for row in found["stated"]]
    sections = [
        hub.header(root, name, run.get("tokens_fingerprint", ""), found) + f"\n# {_escaped(name)}",
        "Video, image and text samples curated from a dump, and their token documents, by reelmill. "
        "`load_dataset` reads the tables that the header names; `reelmill.duckdb` answers queries (`reelmill sql`); "
        "`reelmill report` makes a page of pictures.",
        _table(("", ""), [(key, _escaped(value)) for key, value in facts]),
        "## Sources",
        _table(("source", "documents", "tokens"), [_counted(row) for row in tokens["source"]]),
        "## Licences",
        _table(("licence", "documents", "tokens"), [_counted(row) for row in tokens["licence"]]),
        "Who states them, and what the files carry:",
        _table(("stated by", "items", "with a copyright notice", "with C2PA credentials"), stated),
        "## Rules",
        "The first that fails is the reason; exact duplicates go before.",
        _table(("rule", "value", "kept when", "kinds"), rules),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(found)),
    ]
    return "\n\n".join(sections) + "\n"


def _counted(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return _escaped(str(row["name"])), f"{row['documents']:,}", f"{row['tokens']:,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Hostile text as plain words of one Markdown cell."""
    return " ".join(text.split()).translate(_SPECIAL)
