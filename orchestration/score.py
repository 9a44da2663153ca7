"""The score stage: which units it has left, and the worker that scores a unit and commits it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelmill.config import from_dict
from reelmill.curation.ledger import ITEMS, TIMINGS, is_forgotten
from reelmill.curation.measuring import approximate_columns
from reelmill.curation.rules import Rule, any_failed_sql, quoted, skipped_sql, unsettled_sql
from reelmill.curation.scoring import ItemScorer, ScoreConfig, make_scorers
from reelmill.curation.text_bundles import batches
from reelmill.isolation.parent import ItemFailed
from reelmill.orchestration.attempts import Attempts
from reelmill.orchestration.changed import MARK
from reelmill.orchestration.embeddings import write_vectors
from reelmill.orchestration.engine import Receipt, Task
from reelmill.orchestration.fetched import outdated_units, resolved, waiting_units
from reelmill.orchestration.forgotten import forgotten_hashes, tombstone
from reelmill.orchestration.picture_spool import PictureSpool
from reelmill.orchestration.positions import Positions
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.table_files import read_table
from reelmill.orchestration.views import LedgerQueries

_Scored = tuple[Mapping[str, Any], dict[str, Any], list[dict[str, Any]]]
"""An item of the plan, its row of `items`, its rows of `samples`."""

WORKER = "reelmill.orchestration.score:ScoreWorker"


def score_tasks(folder: RunFolder, fingerprint: str, retry: Collection[str] = ()) -> list[Task]:
    """Units that have no row under this score fingerprint, or hold an item that changed or was fetched since.

    Also those with failures of a class in `retry`. Those with addresses that were not asked yet are left out.

    The classes: "machine" (items refused by the machine's fault), "scorer" (samples with a `score_error`).
    """
    query = """SELECT DISTINCT unit FROM items WHERE score_fingerprint = $1
        EXCEPT SELECT unit FROM items WHERE starts_with(reason, $3)
        EXCEPT SELECT unit FROM items WHERE $2 AND status = 'refused' AND reason_class = 'machine'"""
    if "scorer" in retry:
        query += " EXCEPT SELECT unit FROM scored WHERE score_error IS NOT NULL"
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(query, [fingerprint, "machine" in retry, MARK])
    done = {row["unit"] for row in rows} - outdated_units(folder) | waiting_units(folder)
    return _tasks(folder, lambda unit: unit not in done)


def requeued_tasks(folder: RunFolder, selection: str, rules: Mapping[str, Rule], config: ScoreConfig) -> list[Task]:
    """Units to score again under these rules: with undecided samples that a scorer skipped and would not skip now, or
    with values that were measured roughly and are now too close to a bound.
    """
    due = [
        f"(list_contains(string_split(skipped, ' '), {quoted(name)}) AND NOT {skipped_sql(options['skip_if'])})"
        for name, options in config.scorers.items()
        if options.get("skip_if")
    ]
    with LedgerQueries(folder.root) as ledger:
        rows = ledger.rows(
            f"""SELECT DISTINCT unit FROM (SELECT *, ({any_failed_sql(rules)}) AS failed FROM scored)
            WHERE ({" OR ".join(due) or "false"}) AND sample_id IN
            (SELECT sample_id FROM verdicts WHERE selection = ? AND status = 'undecided')
            UNION SELECT unit FROM scored WHERE sample_id IN
            ({unsettled_sql(rules, approximate_columns(make_scorers(config)), "scored")})""",
            [selection],
        )
    again = {row["unit"] for row in rows}
    return _tasks(folder, lambda unit: unit in again)


class ScoreWorker:
    """Scores a unit's items one after another; commits `samples/`, then `items/`, which is the commit mark."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._folder = RunFolder(Path(settings["out"]), settings["epoch"])
        rules = {name: from_dict(Rule, rule) for name, rule in settings["rules"].items()}
        self._config = from_dict(ScoreConfig, settings["score"])
        self._scorer = ItemScorer(self._config, rules, self._at, settings.get("pictures"))
        self._positions: Positions | None = None
        self._plan = self._folder.plan()
        self._forgotten = forgotten_hashes(self._plan)

    def close(self) -> None:
        """Stop the decoding child."""
        self._scorer.close()
        self._plan.close()

    def __call__(self, task: Task) -> Receipt:
        """Score and commit one unit."""
        began = time.process_time()
        unit = task["unit"]
        attempts, self._positions = Attempts(self._folder, unit), Positions(self._folder, unit)
        items, samples = [], []
        kept = PictureSpool(self._folder, unit)
        self._scorer.take_picture = kept.add
        planned = resolved(self._folder, unit, self._plan.unit(unit))
        for item, row, rows in self._scored(planned, attempts, self._positions):
            row["sha256"] = row["sha256"] or item.get("fetched_sha256")
            reason = item["problem"] if is_forgotten(item["problem"]) else self._forgotten.get(row["sha256"])
            items.append(row if reason is None else tombstone(row, reason))
            samples.extend(rows if reason is None else [])
        self._scorer.keep_known(samples, self._before(unit))
        schema = self._scorer.samples_schema
        folder = self._folder
        write_vectors(folder, unit, samples)
        kept.commit()
        folder.commit(folder.unit_path("samples", unit), pa.Table.from_pylist(samples, schema=schema))
        folder.commit(folder.unit_path("timings", unit), self._timings(unit, items, began))
        folder.commit(folder.unit_path("items", unit), pa.Table.from_pylist(items, schema=ITEMS))
        attempts.end()
        self._positions.end()
        bad = sum(row["status"] == "refused" for row in items)
        cpu_s = time.process_time() - began
        return {"unit": unit, "items": len(items), "samples": len(samples), "refused": bad, "cpu_s": cpu_s}

    def _at(self, at_s: float, of_s: float | None) -> None:
        if self._positions is not None:
            self._positions.at(at_s, of_s)

    def _scored(self, items: Sequence[dict[str, Any]], attempts: Attempts, positions: Positions) -> Iterator[_Scored]:
        """Each item with its rows. After a death items go one by one, so that it is known on which one."""
        expander = None if attempts.has_deaths else self._config.expanders.get("text")
        for batch in batches(items, expander):
            item = batch[0]
            if attempts.retries_exhausted(item["item_id"]):
                failure = ItemFailed("machine", "lost_worker: the worker died twice on this item")
                yield item, self._scorer.refused(item, failure), []
                continue
            attempts.begin(item["item_id"])
            positions.begin(item["item_id"], item["uri"])
            found = self._scorer.score_texts(batch) if len(batch) > 1 else [self._scorer.score(item)]
            for one, (row, rows) in zip(batch, found, strict=True):
                yield one, row, rows

    def _before(self, unit: int) -> dict[str, dict[str, Any]]:
        """The unit's sample rows by id, if the same scorers have scored it before."""
        items = self._folder.unit_path("items", unit)
        if not items.is_file():
            return {}
        if set(self._folder.read(items)["score_fingerprint"].to_pylist()) != {self._scorer.fingerprint}:
            return {}
        rows = self._folder.read(self._folder.unit_path("samples", unit)).to_pylist()
        return {row["sample_id"]: row for row in rows}

    def _timings(self, unit: int, items: list[dict[str, Any]], began: float) -> pa.Table:
        """CPU seconds of the unit by part of the work; what this process spent outside its scorers is `the rest`."""
        parts = self._scorer.take_timings()
        here = sum(seconds for part, seconds in parts.items() if part != "decode and cut")
        parts["the rest"] = max(time.process_time() - began - here, 0.0)
        media_s = sum(row["duration_s"] or 0.0 for row in items)
        known = {"unit": unit, "move": "score", "items": len(items), "media_s": media_s}
        rows = [{**known, "stage": part, "cpu_s": seconds} for part, seconds in parts.items()]
        return pa.Table.from_pylist(rows, schema=TIMINGS)


def _tasks(folder: RunFolder, wanted: Callable[[int], bool]) -> list[Task]:
    """The most bytes first, so that no worker begins the longest unit when the others end."""
    plan = read_table(folder.plan_path, ["unit", "size"])
    units = plan.group_by("unit").aggregate([("size", "sum"), ("unit", "count")]).to_pylist()
    units.sort(key=lambda row: (-(row["size_sum"] or 0), row["unit"]))
    return [{"unit": row["unit"], "items": row["unit_count"]} for row in units if wanted(row["unit"])]
