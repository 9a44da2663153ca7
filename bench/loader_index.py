"""What the loader takes to begin with many shards: seconds and memory of the index, and of the first epoch's packing.

    python bench/loader_index.py [--shards 10000] [--documents 1000] [--folder FOLDER]

Writes that many shards of so many small pictures each (once, into FOLDER, else into a folder that is deleted again),
with ids as a curation makes them. Each figure is of a process of its own with one thread of Python: wall and CPU
seconds, and the largest resident memory beyond what the imports took.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reelmill.tokenize.documents import image_document
from reelmill.tokenize.shards import document_row
from reelmill.tokenize.shards.format import TOKENS_SCHEMA, Footer
from reelmill.tokenize.vocabulary import Vocabulary

FINGERPRINT = "ab" * 32


def write(out: Path, shards: int, documents: int) -> None:
    folder = out / "tokens" / FINGERPRINT[:12]
    folder.mkdir(parents=True)
    vocab, rng = Vocabulary("bytes", 64), np.random.default_rng(0)
    tokens = image_document(vocab, np.arange(6).reshape(2, 3), "a caption")
    row = document_row(vocab, tokens, sample_id="", item_id="", fingerprint=FINGERPRINT)
    columns = {field.name: pa.array([row[field.name]] * documents, field.type) for field in TOKENS_SCHEMA}
    schema = TOKENS_SCHEMA.with_metadata(Footer(FINGERPRINT, vocab, FINGERPRINT).to_metadata())
    for shard in range(shards):
        ids = [f"{number:032x}" for number in rng.integers(0, 2**62, documents).tolist()]
        items = [name[::-1] for name in ids]
        own = {"doc_id": ids, "item_id": items, "sample_id": [f"{name}|0.000000|4.000000" for name in items]}
        table = pa.table(columns | {name: pa.array(values) for name, values in own.items()}, schema=schema)
        pq.write_table(table, folder / f"unit-{shard:06d}.parquet", compression="lz4", write_page_checksum=True)


def measured(jobs: list[str], out: Path, told: multiprocessing.Queue[dict[str, float]]) -> None:
    from reelmill.train.data.config import DataConfig
    from reelmill.train.data.corpus import Corpus
    from reelmill.train.data.loader import Loader

    config = DataConfig(context=512, batch_rows=64, heldout=0.001, caption_drop=0.05)
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    corpus = Corpus([out], None, config)
    assert corpus.fingerprint
    if "loader" in jobs:
        loader = Loader(corpus, np.flatnonzero(~corpus.heldout), config, ranks=8, seed=0)
        loader.micro_batches(0, 0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told.put(
        {
            "documents": len(corpus),
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "gib": (most - imported) / 2**20,
            "bytes_a_document": (most - imported) * 1024 / len(corpus),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.folder or Path(scratch) / "out"
        if not (out / "tokens").is_dir():
            write(out, options.shards, options.documents)
        for jobs in (["index"], ["index", "loader"]):
            told: multiprocessing.Queue[dict[str, float]] = context.Queue()
            process = context.Process(target=measured, args=(jobs, out, told))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)
            found = told.get(timeout=10)
            print(" and ".join(jobs), json.dumps({name: round(value, 2) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
