"""The peer of `bench/duplicates.py scale --faiss`: all hashes of a file asked for among themselves, with faiss.

    python bench/faiss_hashes.py HASHES.npy RADIUS PAIRS.npy

`IndexBinaryMultiHash` is faiss's locality-sensitive hashing of binary codes: as many tables as keys of log2(N) bits fit
into 256, without probes of other keys. Prints CPU seconds and peak memory as JSON. Runs where faiss-cpu is installed.
"""

import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np


def main():
    codes, radius = np.load(sys.argv[1]), int(sys.argv[2])
    faiss.omp_set_num_threads(1)
    bits = max(14, int(np.ceil(np.log2(len(codes)))))
    index = faiss.IndexBinaryMultiHash(256, 256 // bits, bits)
    began = time.process_time()
    index.add(codes)
    built = time.process_time() - began
    found = []
    for start in range(0, len(codes), 50_000):
        ends, _, entries = index.range_search(codes[start : start + 50_000], radius + 1)  # faiss's radius is exclusive
        queries = np.repeat(np.arange(len(ends) - 1) + start, np.diff(ends.astype(np.int64)))
        differ = queries != entries
        found.append(np.stack([queries[differ], entries[differ]], axis=1))
    asked = time.process_time() - began - built
    np.save(sys.argv[3], np.concatenate(found))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024  # what getrusage says includes whoever started this process
    print(json.dumps({"built": built, "asked": asked, "mb": peak, "tables": 256 // bits}))


if __name__ == "__main__":
    main()
