"""Claim: the text chain reads more than 1 MB of text a CPU-second, children and the hashes of near duplicates
included: three times what datatrove reads by the same filters with its own words on the same texts.

    python bench/text.py [FILE.jsonl ...] [--mb 3] [--json]

Texts are the `text` of JSON lines, else Python's reference manual and the descriptions of installed packages, divided
at ends of paragraphs into at most 4,000 characters. Chain: encoding, cleaning, masks, language, Gopher's two filters,
C4, FineWeb, MinHash; all values of all texts, as Parquet. datatrove's: ftfy, PII, the same four filters, which stop at
the first that fails, without language (its model is fetched from its own host) and MinHash. Its word tokenizer is
spaCy's where that is installed (pip install spacy); `own words` gives it ours.
"""

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
from beside import Row, print_json
from datatrove.data import Document
from datatrove.pipeline.filters import (
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter

from reelmill.curation.ledger import ITEMS, PLAN
from reelmill.curation.scoring import ItemScorer
from reelmill.curation.text_bundles import TEXT_EXPANDER, batches
from reelmill.curation.texts.splitting import spans
from reelmill.curation.texts.words import split_words
from reelmill.orchestration.table_files import write_table
from reelmill.pipelines.curate import recipes

FILTERS = (gopher_repetition_filter, gopher_quality_filter, c4_filters, fineweb_quality_filter)


def manuals():
    """Python's reference manual, and what the packages that are installed here say of themselves."""
    described = ((found.read_text("METADATA") or "").partition("\n\n")[2] for found in distributions())
    for text in (*topics.values(), *described):
        yield from (text[first:last] for first, last in spans(text, 4000))


def texts(files, most_bytes):
    lines = (json.loads(line)["text"] for file in files for line in Path(file).read_text("utf-8").splitlines())
    found, size = [], 0
    for text in lines if files else manuals():
        if size < most_bytes and len(text) > 200:
            found.append(text)
            size += len(text.encode())
    return found, size


def cpu_s():
    times = os.times()
    return times.user + times.system


def ours(found, folder):
    """CPU seconds of this process and of the children that read, and what the rows say."""
    items = []
    for number, text in enumerate(found):
        path = folder / f"{number}.txt"
        path.write_bytes(text.encode())
        known = {"unit": 0, "item_id": path.name, "uri": path.name, "kind": "text", "path": str(path), "offset": 0}
        items.append({**dict.fromkeys(PLAN.names), **known, "size": path.stat().st_size})
    recipe = recipes.load("text")
    scorer = ItemScorer(recipe.score, recipe.rules)
    scorer.score_texts(items[:2])  # imports
    scorer.take_timings()
    began = cpu_s()
    rows = [row for batch in batches(items, TEXT_EXPANDER) for row in scorer.score_texts(batch)]
    samples = [sample for _, found in rows for sample in found]
    write_table(folder / "samples.parquet", pa.Table.from_pylist(samples, schema=scorer.samples_schema))
    write_table(folder / "items.parquet", pa.Table.from_pylist([row for row, _ in rows], schema=ITEMS))
    here, parts = cpu_s() - began, scorer.take_timings()
    scorer.close()
    assert all(row["status"] == "done" for row, _ in rows)
    return here + parts["decode and cut"], parts


def theirs(found):
    """CPU seconds, and how many texts they keep."""
    steps = [FTFYFormatter(), PIIFormatter()]
    filters = [
        gopher_repetition_filter.GopherRepetitionFilter(),
        gopher_quality_filter.GopherQualityFilter(),
        c4_filters.C4QualityFilter(filter_no_terminal_punct=False),
        fineweb_quality_filter.FineWebQualityFilter(),
    ]
    began, kept = time.process_time(), 0
    for number, text in enumerate(found):
        document = Document(text, str(number))
        for step in steps:
            document.text = step.format(document.text)
        kept += all(one.filter(document) is True for one in filters)
    return time.process_time() - began, kept


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*")
    parser.add_argument("--mb", type=float, default=3.0)
    parser.add_argument("--json", action="store_true", help="rows beside peers as the last line")
    options = parser.parse_args()
    found, size = texts(options.files, options.mb * 1e6)
    print(f"{len(found)} texts, {size / 1e6:.2f} MB")
    with tempfile.TemporaryDirectory() as folder:
        seconds, parts = ours(found, Path(folder))
    print(f"reelmill: {seconds:.2f} CPU-s, {size / 1e6 / seconds:.2f} MB a CPU-second")
    without = seconds - parts["minhash"]
    print(f"without the hashes of near duplicates: {without:.2f} CPU-s, {size / 1e6 / without:.2f} MB a CPU-second")
    for name, part in parts.items():
        print(f"  {name:20} {part:.2f}")
    peers = {}
    if find_spec("spacy"):
        theirs(found[:1])
        peers["datatrove, spaCy"] = compare("datatrove, spaCy", found, size)
    for module in FILTERS:
        if hasattr(module, "split_into_words"):
            module.split_into_words = lambda text, language: split_words(text)
        if hasattr(module, "split_into_sentences"):
            module.split_into_sentences = lambda text, language: text.split(". ")
    peers["datatrove, our words"] = compare("datatrove, own words", found, size)
    if options.json:
        millions = size / 1e6
        work = "filters of texts (ours with language and MinHash)"
        print_json([Row(work, name, "CPU-s a MB", seconds / millions, cost / millions) for name, cost in peers.items()])


def compare(name, found, size):
    seconds, kept = theirs(found)
    print(f"{name}: {seconds:.2f} CPU-s, {size / 1e6 / seconds:.2f} MB a CPU-second, {kept} texts pass")
    return seconds


if __name__ == "__main__":
    main()
