"""`reelmill verify`: every byte, every document, every reference of a run folder or a folder of preferences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.errors import DataError
from reelmill.files import damaged_files
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries, database_problems
from reelmill.tokenize.shards import verify_shard
from reelmill.tokenize.shards.pairs import verify_pairs
from reelmill.written_log import CHECKSUMS

_REFERENCES = {
    "{n} items of scored units are gone": """SELECT count(*) FROM plan WHERE unit IN (SELECT unit FROM items)
        AND item_id NOT IN (SELECT item_id FROM items)""",
    "{n} samples have no item": "SELECT count(*) FROM scored WHERE item_id NOT IN (SELECT item_id FROM items)",
    "{n} sample ids stand twice": "SELECT count(*) - count(DISTINCT sample_id) FROM scored",
    "{n} item ids stand twice": "SELECT count(*) - count(DISTINCT item_id) FROM items",
    "{n} addresses have two rows of fetches": "SELECT count(*) - count(DISTINCT item_id) FROM fetches",
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
    problems += [problem for path in _pairs(folder.root) for problem in verify_pairs(path)]
    problems += database_problems(folder.root)
    if not problems:
        with LedgerQueries(folder.root) as ledger:
            for problem, query in _REFERENCES.items():
                if "FROM plan" in query and not ledger.has("plan"):
                    continue  # an imported folder has none
                (found,) = ledger.table(query).to_pylist()
                (count,) = found.values()
                problems.extend([problem.format(n=count)] if count else [])
    return Findings(_checksums(folder.root), documents, problems)


def holds_checkpoints(folder: Path) -> bool:
    """Whether it is the folder of a training run, of a decoder or of a tokenizer."""
    return (folder / "checkpoints").is_dir()


def verify_checkpoints(folder: Path) -> Findings:
    """Compare the files of every checkpoint of a training run with the SHA-256 in its manifest."""
    from reelmill.train.checkpoint import complete, incomplete
    from reelmill.train.manifest import damage, has_manifest, hashed_files

    problems = [f"{path.relative_to(folder)}: state.json is gone" for path in incomplete(folder / "checkpoints")]
    files = 0
    for path in complete(folder / "checkpoints").values():
        found = damage(path) if has_manifest(path) else ["no manifest (an earlier version wrote it)"]
        problems += [f"{path.relative_to(folder)}: {problem}" for problem in found]
        files += 0 if found else len(hashed_files(path))
    return Findings(files, 0, problems)


def holds_preferences(folder: Path) -> bool:
    """Whether `reelmill prefer` made a folder."""
    return (folder / "candidates").is_dir() or (folder / "pairs").is_dir()


def verify_preferences(folder: Path) -> Findings:
    """Check SHA-256 of every table, every candidate's and pair's documents, and that votes are about what is there."""
    from reelmill.eval.preference import Candidates, VoteFile

    pairs = _pairs(folder)
    votes = VoteFile(folder)
    problems = damaged_files(folder, [*(folder / "candidates").glob("*.parquet"), *pairs], [votes.path])
    problems += [problem for path in pairs for problem in verify_pairs(path)]
    documents = 0
    try:
        candidates = Candidates(folder)
        documents = len(candidates)
        problems += candidates.problems()
        votes.read(candidates)
    except DataError as error:
        problems.append(str(error))
    if not problems:
        documents += sum(2 * pq.read_metadata(path).num_rows for path in pairs)
    return Findings(_checksums(folder), documents, problems)


def _pairs(folder: Path) -> list[Path]:
    return sorted((folder / "pairs").glob("*/*.parquet"))


def _checksums(root: Path) -> int:
    return sum(1 for _ in (root / CHECKSUMS).rglob("*.sha256"))
