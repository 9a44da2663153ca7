"""Claim: copies are found among the pictures of a dump, next to nothing else is, and ten million hashes are few.

    python bench/duplicates.py truth FOLDER [--among N] [--sheet FILE.png]
    python bench/duplicates.py clips VIDEO ...
    python bench/duplicates.py near VIDEO ...
    python bench/duplicates.py scale N [--flips SHARE] [--faiss PYTHON] [--json]

`truth`: each picture of a folder is changed in eleven ways, as the web changes pictures, and all are compared with
all. Recall is the share of copies found, precision the share of found pairs that show one original. The baseline on the
same pictures is PDQ alone at its published distance of 31. The sheet shows the pairs of different originals that look
most alike, found or not.

`clips`: each video is encoded again in nine ways, all files are cut into clips as curation does, and all clips of at
least two seconds are compared. A clip of a copy counts as found when it is paired with one of the original that shows
the same time.

`near`: near misses: two frames of each video, half a second to two seconds apart, as two pictures.

`scale`: N random hashes, every twentieth a copy of another with SHARE of its bits flipped, each asked for. The baseline
is brute force over a part of them, per query; with `--faiss` faiss asks for all of them too (`bench/faiss_hashes.py`).
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from beside import Row, print_json
from PIL import Image, ImageDraw

from reelmill.curation.duplicates import looks, pdq
from reelmill.curation.duplicates.clusters import Member, judge
from reelmill.curation.duplicates.config import DuplicatesConfig
from reelmill.curation.duplicates.find import RADIUS, Copies, Look, best_of, clip_pairs, picture_pairs
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.duplicates.search import HashTables
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.ledger import PLAN
from reelmill.curation.scorers import create
from reelmill.curation.scoring import ItemScorer, ScoreConfig

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))
from copies import EDITS, captioned, cut, letterboxed, mirrored, scaled

LEAST = DuplicatesConfig().min_similarity


def small(image):
    factor = min(1.0, 256 / min(image.shape[:2]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def look(name, image):
    frames = Frames(small(image)[None], np.zeros(1), np.zeros((0, 3, 8, 8), np.uint8))
    (row,) = create("phash").score([Sample(name, name, "image", 0.0, 0.0, 64, 64, 0.0, frames)])
    return Look(name, looks.hashed([row["phash"]]).hashes, looks.thumbnails(row["thumbnail"]))


def found(samples, among):
    """{(name, name): similarity}, in an index with as many random hashes beside theirs."""
    known = {sample.sample_id: sample for sample in sorted(samples, key=lambda sample: sample.sample_id)}
    theirs = looks.hashed([sample.hashes.tobytes().hex() for sample in known.values()])
    others = np.random.default_rng(0).integers(0, 256, (among, pdq.BYTES), np.uint8)
    everything = looks.Hashed(
        np.arange(len(known) + among),
        np.zeros(len(known) + among, np.int64),
        np.concatenate([theirs.hashes, others]),
    )
    copies = Copies([*known, *(f"other {n}" for n in range(among))], everything)
    none = np.zeros((1, pdq.SIDE, pdq.SIDE), np.uint8)
    thumbnails = {name: sample.thumbnails for name, sample in known.items()}
    pairs = picture_pairs(copies, list(known.values()), lambda names: {n: thumbnails.get(n, none) for n in names})
    return {(pair.sample_id, pair.other_id): pair.similarity for pair in best_of(pairs)}


def truth(folder, among, sheet):
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    pictures = {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in paths}
    samples = [look(f"{stem}|", image) for stem, image in pictures.items()]
    samples += [look(f"{stem}|{name}", edit(image)) for stem, image in pictures.items() for name, edit in EDITS.items()]
    began = time.process_time()
    similar = found(samples, among)
    seconds = time.process_time() - began
    pairs = {pair for pair, similarity in similar.items() if similarity >= LEAST}
    plain = {
        (a.sample_id, b.sample_id)
        for a, b in itertools.combinations(sorted(samples, key=lambda sample: sample.sample_id), 2)
        if pdq.distances(a.hashes[0], b.hashes[0]) <= 31
    }
    print(f"{len(pictures)} pictures, {len(samples)} with their copies; compared in {seconds:.1f} CPU-s")
    for name in EDITS:
        wanted = {(f"{stem}|", f"{stem}|{name}") for stem in pictures}
        shares = (len(wanted & some) / len(wanted) for some in (pairs, plain))
        print(f"  {name:20} recall {next(shares):.3f}   PDQ <= 31: {next(shares):.3f}")
    for title, some in (("found", pairs), ("PDQ <= 31", plain)):
        right = sum(a.split("|")[0] == b.split("|")[0] for a, b in some)
        wanted = {(f"{stem}|", f"{stem}|{name}") for stem in pictures for name in EDITS}
        print(f"{title}: recall {len(wanted & some) / len(wanted):.3f}, precision {right}/{len(some)}")
    wrong = Counter(tuple(name.split("|")[0] for name in pair) for pair in pairs)
    wrong = {names: count for names, count in wrong.items() if len({*names}) > 1}
    print(f"pairs of different originals, by these: {wrong}")
    best = {}
    for pair, similarity in similar.items():
        names = tuple(name.split("|")[0] for name in pair)
        if len({*names}) > 1:
            best[names] = max(best.get(names, (0.0,)), (similarity, *pair))
    others = sorted(best.values(), reverse=True)
    print("nearest of them:", others[:12])
    if sheet is not None and others:
        save_sheet(sheet, others[:12], pictures)


def save_sheet(path, pairs, pictures):
    """Both originals of each pair side by side, and how alike they are."""
    width, height = 200, 150
    page = Image.new("RGB", (2 * width + 20, len(pairs) * (height + 20)), "white")
    for row, (similarity, *names) in enumerate(pairs):
        ImageDraw.Draw(page).text((4, row * (height + 20)), f"{similarity:.2f}  {'  '.join(names)}", "black")
        for column, name in enumerate(names):
            image = Image.fromarray(pictures[name.split("|")[0]])
            image.thumbnail((width, height))
            page.paste(image, (column * (width + 20), row * (height + 20) + 16))
    page.save(path)


SIDE = 320
SHIFT_S = 2.0
ENCODED = {
    "rescale": {"edit": lambda image: scaled(image, 0.6)},
    "crf 38": {"crf": 38},
    "half the rate": {"every": 2, "crf": 30},
    "2 s later": {"from_s": SHIFT_S},
    "crop 10 %": {"edit": lambda image: cut(image, 0.05, 0.05, 0.05, 0.05)},
    "mirror": {"edit": mirrored},
    "caption": {"edit": captioned},
    "letterbox": {"edit": letterboxed},
    "5 % faster": {"speed": 1.05},
}


def encode(path, frames, rate, edit=lambda image: image, crf=23, every=1, from_s=0.0, speed=1.0):
    """Write an H.264 file of some of the frames."""
    with av.open(str(path), "w") as container:
        stream = None
        for frame in frames[round(from_s * rate) :: every]:
            image = edit(frame)
            image = np.ascontiguousarray(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2])
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(rate * speed / every).limit_denominator(1000))
                stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
                stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def clips(paths):
    score = ScoreConfig(scorers={"phash": {}})
    scorer, rows = ItemScorer(score, {}), []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            with av.open(str(path)) as container:
                rate = float(container.streams.video[0].average_rate)
                images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            images = [scaled(image, min(1.0, SIDE / image.shape[0])) for image in images]
            for name, changes in {"": {}, **ENCODED}.items():
                file = Path(folder) / f"{path.stem}|{name}.mp4"
                encode(file, images, rate, **changes)
                place = {"path": str(file), "offset": 0, "size": file.stat().st_size}
                item = {**dict.fromkeys(PLAN.names), "unit": 0, "item_id": file.stem, "uri": file.stem, "kind": "video"}
                _, samples = scorer.score({**item, **place})
                rows += [row for row in samples if row["end_s"] - row["start_s"] >= 2.0]
    scorer.close()
    rows.sort(key=lambda row: row["sample_id"])
    by_id = {row["sample_id"]: row for row in rows}
    asked = [
        Look(row["sample_id"], looks.hashed([row["phash"]]).hashes, looks.thumbnails(row["thumbnail"])) for row in rows
    ]
    copies = Copies(list(by_id), looks.hashed([row["phash"] for row in rows]))
    began = time.process_time()
    similar = {
        (pair.sample_id, pair.other_id): pair.similarity
        for pair in best_of(clip_pairs(copies, asked))
        if by_id[pair.sample_id]["item_id"] != by_id[pair.other_id]["item_id"]
    }
    print(
        f"{len(paths)} videos, {len(rows)} clips with their copies; compared in {time.process_time() - began:.1f} CPU-s"
    )
    pairs = {pair for pair, similarity in similar.items() if similarity >= LEAST}
    wrong = Counter()
    for pair in pairs:
        stems = tuple(sorted(by_id[name]["item_id"].split("|")[0] for name in pair))
        if stems[0] != stems[1]:
            wrong[stems] += 1
    found_of, all_of = Counter(), Counter()
    for row in rows:
        stem, name = row["item_id"].split("|")
        originals = [o for o in rows if o["item_id"] == f"{stem}|" and common_s(row, o, name) >= 2.0]
        if name and originals:
            all_of[name] += 1
            found_of[name] += any(tuple(sorted((row["sample_id"], o["sample_id"]))) in pairs for o in originals)
    for name, count in all_of.items():
        print(f"  {name:20} {found_of[name]} of {count} clips found")
    print(
        f"recall {sum(found_of.values()) / sum(all_of.values()):.3f}, pairs {len(pairs)}, of other videos {dict(wrong)}"
    )


def common_s(copy, original, name):
    """Seconds of the original that both show."""
    changes = ENCODED.get(name, {})
    speed, shift = changes.get("speed", 1.0), changes.get("from_s", 0.0)
    start, end = (copy[side] * speed + shift for side in ("start_s", "end_s"))
    return min(end, original["end_s"]) - max(start, original["start_s"])


def near(paths):
    for gap_s in (0.5, 1.0, 2.0):
        taken = asked = 0
        for path in paths:
            with av.open(str(path)) as container:
                rate = float(container.streams.video[0].average_rate)
                frames = [
                    frame.to_ndarray(format="rgb24") for frame in itertools.islice(container.decode(video=0), 400)
                ]
            apart = round(gap_s * rate)
            for start in range(0, len(frames) - apart, max(1, (len(frames) - apart) // 8)):
                pair = look("a", frames[start]), look("b", frames[start + apart])
                if all(one.hashes.any() for one in pair):
                    asked += 1
                    taken += found(pair, 0).get(("a", "b"), 0.0) >= LEAST
        print(f"{gap_s} s apart: {taken} of {asked} pairs of frames are taken for copies")


def with_faiss(python, index, copies, originals):
    """CPU seconds, MB and the share of copies found."""
    with tempfile.TemporaryDirectory() as folder:
        hashes, pairs = (str(Path(folder) / name) for name in ("hashes.npy", "pairs.npy"))
        np.save(hashes, index)
        command = [python, str(Path(__file__).with_name("faiss_hashes.py")), hashes, str(RADIUS), pairs]
        said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        return {**said, "recall": recall_of(np.load(pairs), len(index), copies, originals)}


def recall_of(pairs, count, copies, originals):
    """Share of copies that were found from either side."""
    wanted, numbers = np.stack([copies, originals], axis=1), []
    for some in (wanted, pairs):
        low, high = some.min(axis=1), some.max(axis=1)
        numbers.append(low * count + high)
    return float(np.isin(*numbers).mean())


def scale(count, share, faiss, as_json):
    rng = np.random.default_rng(0)
    index = rng.integers(0, 256, (count, pdq.BYTES), np.uint8)
    copies = np.arange(0, count, 20)
    originals = (copies + count // 2 + 1) % count
    for start in range(0, len(copies), 100_000):
        chosen = slice(start, start + 100_000)
        flips = np.packbits(rng.random((len(copies[chosen]), 256), np.float32) < share, axis=1)
        index[copies[chosen]] = index[originals[chosen]] ^ flips
    began = time.process_time()
    tables = HashTables(index)
    built = time.process_time() - began
    found = []
    for start in range(0, count, 250_000):
        queries, entries, _ = tables.near(index[start : start + 250_000], RADIUS)
        queries = queries + start
        differ = queries != entries
        found.append(np.stack([queries[differ], entries[differ]], axis=1))
    pairs = np.concatenate(found)
    asked = time.process_time() - began - built
    del tables
    began = time.process_time()
    members = {str(n): Member(str(n), "kept", 0, 0.0, False, "", str(n)) for n in np.unique(pairs).tolist()}
    verdicts = judge((Pair(str(a), str(b), 1.0, "pdq") for a, b in pairs.tolist() if a < b), members)
    groups = len({verdict.cluster for verdict in verdicts})
    clustered = time.process_time() - began
    recall = recall_of(pairs, count, copies, originals)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if faiss:
        theirs = with_faiss(faiss, index, copies, originals)
        work = f"{count:,} hashes, {share:.0%} of a copy's bits flipped"
        if as_json:
            costs = built + asked, theirs["built"] + theirs["asked"]
            print_json([Row(work, "faiss, IndexBinaryMultiHash", "CPU-s", *costs, peak, theirs["mb"])])
            return
        print(", ".join(f"{name} {value:,.4g}" for name, value in theirs.items()), "(faiss)")
    began = time.process_time()
    some = min(count, 100_000_000 // count)
    for query in range(some):
        np.flatnonzero(pdq.distances(index, index[query]) <= RADIUS)
    brute = (time.process_time() - began) / some * count
    print(f"{count:,} hashes: tables {built:.1f} CPU-s, asked for all {asked:.1f} CPU-s; peak {peak / 1024:.2f} GiB")
    print(f"{groups:,} clusters of {len(members):,} of them, judged in {clustered:.1f} CPU-s")
    print(f"copies with {share:.0%} of the bits flipped: {recall:.4f} found; all pairs: {len(pairs):,}")
    print(f"brute force over {some} queries, for all: {brute:,.0f} CPU-s, {brute / (built + asked):.0f} times as much")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_truth = commands.add_parser("truth")
    of_truth.add_argument("folder", type=Path)
    of_truth.add_argument("--among", type=int, default=0, help="Random hashes in the index beside the pictures'.")
    of_truth.add_argument("--sheet", type=Path)
    of_clips = commands.add_parser("clips")
    of_clips.add_argument("videos", type=Path, nargs="+")
    of_scale = commands.add_parser("scale")
    of_scale.add_argument("count", type=int)
    of_scale.add_argument("--flips", type=float, default=0.12)
    of_scale.add_argument("--faiss", metavar="PYTHON", default="", help="A Python that has faiss-cpu.")
    of_scale.add_argument("--json", action="store_true")
    of_near = commands.add_parser("near")
    of_near.add_argument("videos", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "truth":
        truth(options.folder, options.among, options.sheet)
    elif options.command == "clips":
        clips(options.videos)
    elif options.command == "near":
        near(options.videos)
    else:
        scale(options.count, options.flips, options.faiss, options.json)


if __name__ == "__main__":
    main()
