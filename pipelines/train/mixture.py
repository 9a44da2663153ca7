"""Which samples of its run folders a training takes: those that a selection keeps and of which a condition holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reelmill.errors import ConfigError, DataError
from reelmill.tokenize.shards import Selection


def chosen(folders: Sequence[Path], conditions: Sequence[str], selection: str | None) -> list[Selection]:
    """Of each folder the selection's name (None: all), or the ids of the samples where it has a condition.

    A condition is SQL over the columns of the view `samples`. Raises ConfigError where it cannot be asked, or where
    DuckDB is not installed, and DataError where it holds of no sample.
    """
    return [
        _ids(folder, condition, selection) if condition else selection
        for folder, condition in zip(folders, conditions, strict=True)
    ]


def _ids(folder: Path, condition: str, selection: str | None) -> Selection:
    try:
        from reelmill.orchestration.views import LedgerQueries
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--data {folder} WHERE {condition}: {error.name} is not installed, which asks that. Install it, or make a "
            "selection where it is (`reelmill select`) and name it with --selection."
        ) from None
    kept = "SELECT sample_id FROM verdicts WHERE status = 'kept' AND selection = $1"
    among = "" if selection is None else f" AND sample_id IN ({kept})"
    with LedgerQueries(folder) as ledger:
        query = f"SELECT sample_id FROM samples WHERE (\n{condition}\n){among} ORDER BY sample_id"
        try:
            ids = ledger.ask(query, [] if selection is None else [selection])["sample_id"].combine_chunks()
        except ConfigError as error:
            raise ConfigError(f"--data {folder} WHERE {condition}: {error}") from None
    if not len(ids):
        among = "" if selection is None else f" that the selection {selection} keeps"
        raise DataError(f"--data {folder} WHERE {condition}: that holds of no sample{among}.")
    return ids
