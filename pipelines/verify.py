"""`reelmill verify`: every byte, every document, every reference of a run folder."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.tokenize.shards import verify_shard

_REFERENCES = {
    "{n} samples have no item": "SELECT count(*) FROM scored WHERE item_id NOT IN (SELECT item_id FROM items)",
    "{n} sample ids stand twice": "SELECT count(*) - count(DISTINCT sample_id) FROM scored",
    "{n} item ids stand twice": "SELECT count(*) - count(DISTINCT item_id) FROM items",
    "{n} document ids stand twice": "SELECT count(*) - count(DISTINCT doc_id) FROM tokens",
    "{n} documents have no sample": "SELECT count(*) FROM tokens WHERE sample_id NOT IN (SELECT sample_id FROM scored)",
    "{n} items count their samples wrongly": """SELECT count(*) FROM items
        LEFT JOIN (SELECT item_id, count(*) AS n FROM scored GROUP BY item_id) USING (item_id)
        WHERE n_samples <> coalesce(n, 0)""",
    "{n} verdicts have no sample": """SELECT count(*) FROM verdicts WHERE selection = 'default'
        AND sample_id NOT IN (SELECT sample_id FROM scored)""",
}


@dataclass(frozen=True)
class Findings:
    """What was looked at, and what is wrong."""

    files: int
    documents: int
    problems: list[str]


def verify(folder: RunFolder) -> Findings:
    """Check SHA-256 of every table, grammar of every document, and the references between tables."""
    problems = folder.damaged()
    shards = sorted(path for path in (folder.root / "tokens").rglob("unit-*.parquet"))
    documents = 0
    for shard in shards:
        name = shard.relative_to(folder.root)
        try:
            documents += pq.read_metadata(shard).num_rows
            problems.extend(f"{name}: {problem}" for problem in verify_shard(shard))
        except (OSError, ValueError, pa.ArrowException) as error:
            problems.append(f"{name}: not readable: {error}")
    if not problems:
        with LedgerQueries(folder.root) as ledger:
            for words, query in _REFERENCES.items():
                (found,) = ledger.table(query).to_pylist()
                (count,) = found.values()
                problems.extend([words.format(n=count)] if count else [])
    files = sum(1 for _ in (folder.root / "checksums").rglob("*.sha256"))
    return Findings(files, documents, problems)
