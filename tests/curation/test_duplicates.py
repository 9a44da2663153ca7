"""Copies against truth: photographs and clips are changed as the web changes them, and found again; others are not."""

import itertools

import copies
import cv2
import numpy as np
import pytest
from PIL import Image

from reelmill import weights
from reelmill.curation.borders import content_box
from reelmill.curation.duplicates import clusters, looks, pdq, search
from reelmill.curation.duplicates.find import Copies, Look, best_of, clip_pairs, picture_pairs
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create

# By the package pdqhash 0.2.8, which builds the reference implementation, of the whole pictures.
PUBLISHED = {
    "media-astronaut": "2d6b1af3a956c529e79ca3d2526fa834d4196c81cedd04de0a26b855fc99b724",
    "media-china": "bf18cef3407e8678e6833b1937d14066988e5cd2046eac5f783103f157abf50e",
    "media-flower": "673966dcb772a66499a69a666196a9476599a21b9649a659596624b3e58ea693",
    "media-rocket": "8792786c87937064bf1bc0e43f1fc0e03f1cc2e33da4c2537cec821b2ce4f376",
}


def photograph(card):
    return np.asarray(Image.open(weights.path(card)).convert("RGB"))


def small(image):
    """As the expander shows it: shorter side 256."""
    factor = min(1.0, 256 / min(image.shape[:2]))
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def look(name, *images):
    images = np.stack([small(image) for image in images])
    frames = Frames(images, np.arange(len(images)) / 2.0, np.zeros((0, 3, 8, 8), np.uint8))
    (row,) = create("phash").score([Sample(name, name, "image", 0.0, 0.0, 64, 64, 0.0, frames)])
    return Look(name, looks.hashed([row["phash"]]).hashes, looks.thumbnails(row["thumbnail"]))


def found(samples, of_clips=False):
    """{(name, name): similarity} of all pairs among the samples."""
    known = {sample.sample_id: sample for sample in sorted(samples, key=lambda sample: sample.sample_id)}
    index = Copies(list(known), looks.hashed([sample.hashes.tobytes().hex() for sample in known.values()]))
    thumbnails = {name: sample.thumbnails for name, sample in known.items()}
    asked = list(known.values())
    pairs = clip_pairs(index, asked) if of_clips else picture_pairs(index, asked, lambda names: thumbnails)
    return {(pair.sample_id, pair.other_id): pair.similarity for pair in best_of(pairs)}


@pytest.mark.parametrize("card", PUBLISHED)
def test_pdq_is_the_published_hash(card):
    luma = pdq.shrunk(photograph(card))
    assert pdq.pdq(luma).tobytes().hex() == PUBLISHED[card]
    assert pdq.detail(luma) == 100
    assert pdq.detail(np.full((64, 64), 80, np.float32)) == 0


@pytest.mark.parametrize("dihedral", range(pdq.DIHEDRALS))
def test_a_turned_picture_has_the_turned_transform(dihedral):
    luma = pdq.shrunk(photograph("media-china"))
    cosines = pdq.cosines(64)
    turned = pdq.turned_picture(luma, dihedral)
    assert np.allclose(cosines @ turned @ cosines.T, pdq.turned(cosines @ luma @ cosines.T, dihedral), atol=1e-2)


def test_borders_are_found_and_a_plain_ground_is_none():
    picture = small(photograph("media-china"))
    framed = copies.compressed(copies.letterboxed(picture, 0.2), 70)
    box = content_box(framed[None])
    assert (box.left, box.right) == (0.0, 1.0)
    block = 8 / len(framed)  # what JPEG smears an edge over
    assert box.top == pytest.approx(0.2 / 1.4, abs=block)
    assert box.bottom == pytest.approx(1.2 / 1.4, abs=block)
    assert content_box(picture[None]) == (0.0, 0.0, 1.0, 1.0)
    plain = np.full((256, 256, 3), 250, np.uint8)
    plain[120:140, 120:140] = 10
    assert content_box(plain[None]) == (0.0, 0.0, 1.0, 1.0)


def test_copies_of_photographs_are_found_and_nothing_else():
    """At least 95 % of the copies, and no pair of different photographs among a hundred others."""
    originals = {card: photograph(card) for card in PUBLISHED}
    samples = [look(f"{card}|", image) for card, image in originals.items()]
    samples += [
        look(f"{card}|{name}", edit(image)) for card, image in originals.items() for name, edit in copies.EDITS.items()
    ]
    pairs = {pair for pair, similarity in found(samples).items() if similarity >= 0.85}
    wrong = [pair for pair in pairs if len({name.split("|")[0] for name in pair}) > 1]
    wanted = {(f"{card}|", f"{card}|{name}") for card in originals for name in copies.EDITS}
    assert not wrong
    assert len(wanted & pairs) >= 0.95 * len(wanted), wanted - pairs


def test_two_views_of_one_scene_are_no_copies():
    """A flower before a temple, seen from two places: the flower moves by 4 % of the picture, the temple does not."""
    temple = cv2.resize(photograph("media-china"), (640, 480))
    flower = cv2.resize(photograph("media-flower"), (480, 360))
    mask = np.zeros(flower.shape, np.uint8)
    cv2.circle(mask, (240, 200), 120, (1, 1, 1), -1)

    def view(left):
        picture = temple.copy()
        picture[100:460, left : left + 480] = np.where(mask, flower, picture[100:460, left : left + 480])
        return picture

    samples = [look("left", view(60)), look("right", view(86)), look("copy", copies.compressed(view(60)))]
    similar = found(samples)
    assert similar["copy", "left"] >= 0.85
    assert similar.get(("left", "right"), 0.0) < 0.85 and similar.get(("copy", "right"), 0.0) < 0.85


def test_doubtful_bits_of_a_query_are_asked_either_way():
    rng = np.random.default_rng(7)
    transforms = rng.normal(size=(2000, 16, 16)).astype(np.float32)
    changed = transforms[:300] + 0.35 * rng.normal(size=(300, 16, 16)).astype(np.float32)
    queries, margins = pdq.hashes(changed), pdq.margins(changed)
    tables = search.HashTables(pdq.hashes(transforms), tables=8)

    def recall(*asked):
        found_queries, entries, _ = tables.near(queries, 64, *asked)
        return np.mean([n in entries[found_queries == n] for n in range(300)])

    assert recall(margins) > 0.97 > recall() + 0.1


def test_a_clip_is_found_shifted_cut_out_mirrored_and_at_another_pace():
    """Frames of a moving camera over a photograph, two a second."""
    panorama = cv2.resize(photograph("media-china"), (1280, 854))

    def shot(times, picture=panorama, edit=lambda image: image):
        return [edit(np.ascontiguousarray(picture[100:460, int(40 * t) : int(40 * t) + 640])) for t in times]

    times = np.arange(0, 12, 0.5)
    other = cv2.resize(photograph("media-flower"), (1280, 854))
    samples = [
        look("original", *shot(times)),
        look("shifted", *shot(times[4:])),
        look("cut out", *shot(times[6:16], edit=lambda image: copies.compressed(copies.scaled(image, 0.5)))),
        look("mirrored", *shot(times, edit=lambda image: copies.mirrored(copies.cut(image, 0, 0.05, 0.1, 0.05)))),
        look("later frames", *shot(times + 0.2)),
        look("letterbox", *shot(times[2:], edit=copies.letterboxed)),
        look("elsewhere", *shot(times, other)),
        look("still", *shot(np.zeros(12), other)),
    ]
    pairs = found(samples, of_clips=True)
    with_original = {name for pair in pairs if "original" in pair for name in pair} - {"original"}
    assert with_original == {"shifted", "cut out", "mirrored", "later frames", "letterbox"}
    assert not [pair for pair in pairs if {"elsewhere", "still"} & {*pair} and "original" in pair]


def test_frames_without_detail_are_no_evidence():
    black = [np.zeros((256, 256, 3), np.uint8)] * 6
    assert found([look("a", *black), look("b", *black)], of_clips=True) == {}
    assert set(create("phash").columns) == {"phash", "thumbnail"}
    assert found([look("a", black[0]), look("b", black[0])]) == {}


def test_the_search_finds_what_brute_force_finds():
    rng = np.random.default_rng(5)
    index = np.packbits(rng.random((4000, 256)) < 0.5, axis=1)
    flips = np.packbits(rng.random((400, 256)) < 0.08, axis=1)
    queries = index[:400] ^ flips
    found_queries, entries, apart = search.HashTables(index).near(queries, 40)
    brute = {(q, n) for q in range(400) for n in np.flatnonzero(pdq.distances(index, queries[q]) <= 40)}
    pairs = set(zip(found_queries.tolist(), entries.tolist(), strict=True))
    assert pairs <= brute
    assert len(pairs) == len(found_queries)
    assert len(pairs) >= 0.97 * len(brute) > 300
    assert (apart == pdq.distances(queries[found_queries], index[entries])).all()


def member(name, **facts):
    known = {"status": "kept", "pixels": 100, "quality": 0.5, "has_caption": False, "crawled": "", "uri": name}
    return clusters.Member(name, **{**known, **facts})


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ({"pixels": 50}, {"status": "rejected", "pixels": 999}, "rules"),
        ({"pixels": 200, "quality": 0.1}, {"pixels": 100, "quality": 0.9}, "resolution"),
        ({"quality": 0.6}, {"quality": 0.5, "has_caption": True}, "quality"),
        ({"has_caption": True, "crawled": "2024"}, {"crawled": "2020"}, "caption"),
        ({"crawled": "2019-01-01"}, {"crawled": "2020-01-01"}, "age"),
        ({"crawled": "2019-01-01"}, {}, "age"),
        ({"uri": "a"}, {"uri": "b"}, "name"),
    ],
)
def test_the_best_copy_stays_and_says_why(better, worse, reason):
    for names in (("x", "y"), ("y", "x")):
        members = {names[0]: member(names[0], **better), names[1]: member(names[1], **worse)}
        verdicts = {v.sample_id: v for v in clusters.judge([Pair("x", "y", 0.9, "pdq")], members)}
        assert verdicts[names[1]].original == verdicts[names[0]].original == names[0]
        assert {v.cluster for v in verdicts.values()} == {names[0]}
        assert {v.reason for v in verdicts.values()} == {reason}
        assert verdicts[names[1]].similarity == 0.9


def test_a_copy_of_a_copy_stays_when_it_is_none_of_the_original():
    members = {name: member(name, pixels=pixels) for name, pixels in (("a", 300), ("b", 200), ("c", 100))}
    chain = [Pair("a", "b", 0.9, "pdq"), Pair("b", "c", 0.85, "pdq")]
    for pairs in itertools.permutations(chain):
        verdicts = {v.sample_id: v for v in clusters.judge(pairs, members)}
        assert {name: v.original for name, v in verdicts.items()} == {"a": "a", "b": "a", "c": "c"}
        assert {v.cluster for v in verdicts.values()} == {"a"}
