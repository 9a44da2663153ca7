"""Throughput of the loader per CPU-second, compared with other loaders and packers on the same documents.

    python bench/loader.py [--peers PYTHON] [--rounds 3] [--documents 4500] [--json]
    python bench/loader.py --row-groups 40          what a shuffle over many row groups costs
    python bench/loader.py --packing                documents a CPU-second, and rows over the fewest possible

Documents: half images of 32 to 64 codes a side (uniform ids) with captions of 10 to 100 tokens, half texts of 100 to
4,000 tokens (Zipf), in Emu3's vocabulary; about 2,200 tokens each. Ours gives rows of 5,120 predictions: ids, targets,
positions, loss weights and kinds, page checksums verified, 5 % of the captions left out. The peers give less: MosaicML
streaming and webdataset whole documents in shuffled order, not packed; TRL rows of ids and sequence lengths. PYTHON is
an interpreter that has them (mosaicml-streaming, webdataset, trl). Writing their formats is not counted. A figure is
the best of the rounds, which take turns; every process has one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from beside import Row, print_json

CONTEXT = 5120
PEERS = {"streaming": "MosaicML streaming", "webdataset": "webdataset", "trl": "TRL's packing"}


def make_documents(count: int, seed: int = 0) -> Iterator[np.ndarray]:
    from reelmill.tokenize import documents
    from reelmill.tokenize.vocabulary import Vocabulary

    vocab, rng = Vocabulary(), np.random.default_rng(seed)
    for number in range(count):
        if number % 2:
            codes = rng.integers(0, vocab.codes, rng.integers(32, 65, 2))
            yield documents.image_document(vocab, codes, "word " * int(rng.integers(10, 101)))
        else:
            text = np.minimum(rng.zipf(1.3, int(rng.integers(100, 4_001))), vocab.text_size) - 1
            yield np.concatenate(([vocab.bos], text, [vocab.eos])).astype(np.int32)


def write_run(out: Path, lists: list[np.ndarray], row_group_tokens: int = 2_000_000) -> None:
    from reelmill.tokenize.shards import document_row, write_shard
    from reelmill.tokenize.vocabulary import Vocabulary

    fingerprint = hashlib.sha256(b"bench").hexdigest()
    names = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(len(lists))]
    rows = [
        document_row(Vocabulary(), tokens, sample_id=name, item_id=name, fingerprint=fingerprint)
        for tokens, name in zip(lists, names, strict=True)
    ]
    folder = out / "tokens" / fingerprint[:12]
    folder.mkdir(parents=True)
    write_shard(folder / "unit-000000.parquet", rows, Vocabulary(), fingerprint, row_group_tokens)


def ours(out: Path, shuffle_mb: float = 1024.0) -> tuple[int, float, float]:
    """(predictions, CPU-seconds of an epoch's batches, CPU-seconds of index and packing before)."""
    from reelmill.train.data.config import DataConfig
    from reelmill.train.data.corpus import Corpus
    from reelmill.train.data.loader import Loader

    config = DataConfig(
        context=CONTEXT, batch_rows=64, micro_rows=8, heldout=0.0, caption_drop=0.05, shuffle_mb=shuffle_mb
    )
    began = time.process_time()
    corpus = Corpus([out], None, config)
    loader = Loader(corpus, np.arange(len(corpus)), config, seed=0)
    batches = loader.batches(0)
    ready = time.process_time()
    slots = 0
    for step in range(batches):
        for batch in loader.micro_batches(step, 0):
            slots += batch.tokens.size
    took = time.process_time() - ready
    return int(loader.packing(0).fill * slots), took, ready - began


def read_flat(folder: Path) -> list[np.ndarray]:
    flat, stops = np.load(folder / "flat.npy"), np.load(folder / "stops.npy")
    return np.split(flat, stops[:-1])


def streaming_epoch(folder: Path) -> Callable[[], int]:
    stub_torchvision()
    from streaming import MDSWriter, StreamingDataset

    place = folder / "mds"
    if not place.exists():
        with MDSWriter(out=str(place), columns={"tokens": "ndarray:int32"}, hashes=["xxh64"]) as writer:
            for tokens in read_flat(folder):
                writer.write({"tokens": tokens})
    dataset = StreamingDataset(local=str(place), shuffle=True, batch_size=8, validate_hash="xxh64")
    return lambda: sum(len(sample["tokens"]) for sample in dataset)


def webdataset_epoch(folder: Path) -> Callable[[], int]:
    import webdataset

    place = folder / "documents.tar"
    if not place.exists():
        with tarfile.open(place, "w") as archive:
            for number, tokens in enumerate(read_flat(folder)):
                data = io.BytesIO()
                np.save(data, tokens)
                entry = tarfile.TarInfo(f"{number:08}.npy")
                entry.size = data.tell()
                data.seek(0)
                archive.addfile(entry, data)
    dataset = webdataset.WebDataset(str(place), shardshuffle=False, empty_check=False).shuffle(1000).decode()
    return lambda: sum(len(sample["npy"]) for sample in dataset)


def trl_epoch(folder: Path) -> Callable[[], int]:
    stub_torchvision()
    import datasets
    from trl import pack_dataset

    datasets.disable_progress_bars()
    place = folder / "arrow"
    if not place.exists():
        columns = {"input_ids": [tokens[: CONTEXT + 1] for tokens in read_flat(folder)]}
        datasets.Dataset.from_dict(columns).save_to_disk(str(place))
    dataset = datasets.load_from_disk(str(place)).with_format("arrow")

    def epoch() -> int:
        packed = pack_dataset(dataset, CONTEXT, "bfd", map_kwargs={"load_from_cache_file": False})
        count = 0
        for start in range(0, len(packed), 64):
            rows = packed[start : start + 64]["input_ids"]
            count += len(rows.combine_chunks().values.to_numpy())
        return count

    return epoch


def stub_torchvision() -> None:
    """streaming and trl import torchvision, which does not load with every build of torch and is not used here."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        from reelmill.compat import torchvision

        torchvision()


def measure_peer(name: str, folder: Path) -> None:
    epoch = {"streaming": streaming_epoch, "webdataset": webdataset_epoch, "trl": trl_epoch}[name](folder)
    epoch()  # opens files, starts what is started once
    began = time.process_time()
    tokens = epoch()
    print(json.dumps({"tokens": tokens, "cpu_s": time.process_time() - began}))


def compare(count: int, rounds: int, peers: str | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lists = list(make_documents(count))
        write_run(folder / "out", lists)
        np.save(folder / "flat.npy", np.concatenate(lists))
        np.save(folder / "stops.npy", np.cumsum([len(tokens) for tokens in lists]))
        total = sum(map(len, lists))
        print(f"{count:,} documents, {total:,} tokens, {sum(len(t) for t in lists[::2]) / total:.0%} of them text")
        best: dict[str, float] = {}
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        ours(folder / "out")
        for _ in range(rounds):
            tokens, cpu_s, before = ours(folder / "out")
            best["reelmill, packed"] = max(best.get("reelmill, packed", 0), tokens / cpu_s)
            with_start = tokens / (cpu_s + before)
            best["reelmill, packed, with index and packing"] = max(
                best.get("reelmill, packed, with index and packing", 0), with_start
            )
            for name in PEERS if peers else ():
                command = [peers, __file__, "--peer", name, "--folder", str(folder)]
                answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
                if answer.returncode:
                    print(f"{name} failed: {answer.stderr.strip().splitlines()[-1]}")
                    continue
                found = json.loads(answer.stdout.strip().splitlines()[-1])
                best[name] = max(best.get(name, 0), found["tokens"] / found["cpu_s"])
    base = best.get("streaming") or best["reelmill, packed"]
    for name, rate in best.items():
        print(f"{name:45} {rate / 1e6:8.1f} M tokens a CPU-second {rate / base:8.2f}")
    costs = {name: 1e6 / rate for name, rate in best.items()}
    ours_s = costs["reelmill, packed"]
    work = "an epoch of token documents, ours packed"
    return [Row(work, PEERS[name], "CPU-s a million tokens", ours_s, costs[name]) for name in PEERS if name in costs]


def row_groups(groups: int, rounds: int) -> None:
    """The same documents in `groups` row groups, shuffled among all, an eighth and two of them at a time."""
    with tempfile.TemporaryDirectory() as temporary:
        lists = list(make_documents(100 * groups))
        total = sum(map(len, lists))
        write_run(Path(temporary), lists, row_group_tokens=total // groups)
        whole = total * 4 / 2**20
        base = 0.0
        for share in (1.0, 1 / 8, 2 / groups):
            runs = [ours(Path(temporary), max(share * whole * 1.1, 0.01)) for _ in range(rounds)]
            rate = max(tokens / cpu_s for tokens, cpu_s, _ in runs)
            base = base or rate
            print(f"memory for {share:6.1%} of the tokens: {rate / 1e6:6.1f} M tokens a CPU-second {rate / base:6.2f}")


def packing() -> None:
    from reelmill.train.data.binpacking import best_fit, bin_pack, fewest_rows

    rng = np.random.default_rng(0)
    mixes = {
        "images of 512 pixels and captions in 5,120": (rng.integers(4_190, 5_100, 100_000), 5_120),
        "the same in 131,072": (rng.integers(4_190, 5_000, 100_000), 131_072),
        "videos of 5 to 30 latent frames, images, in 131,072": (
            np.append(4_161 * rng.integers(5, 31, 20_000) + 100, rng.integers(4_190, 5_000, 50_000)),
            131_072,
        ),
        "images of 128 pixels in 5,120": (rng.integers(270, 400, 100_000), 5_120),
        "300 to 2,700 in 5,120": (rng.integers(300, 2_700, 100_000), 5_120),
        "1,000 to 2,000 in 5,120": (rng.integers(1_000, 2_000, 100_000), 5_120),
    }
    for name, (sizes, context) in mixes.items():
        fewest = fewest_rows(sizes, context)
        figures = []
        for pack in (best_fit, bin_pack):
            began = time.process_time()
            _, rows = pack(sizes, context)
            took = time.process_time() - began
            figures.append(f"{rows / fewest - 1:6.2%} over the bound, {len(sizes) / took / 1e3:6.0f} k documents/s")
        print(f"{name:55} best fit {figures[0]}; bin_pack {figures[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with the peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=4_500)
    parser.add_argument("--row-groups", type=int, metavar="N")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--json", action="store_true", help="rows beside peers as the last line")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        measure_peer(args.peer, args.folder)
    elif args.packing:
        packing()
    elif args.row_groups:
        row_groups(args.row_groups, args.rounds)
    else:
        rows = compare(args.documents, args.rounds, args.peers)
        if args.json:
            print_json(rows)


if __name__ == "__main__":
    main()
