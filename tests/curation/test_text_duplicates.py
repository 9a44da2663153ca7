"""Texts that say nearly the same, against datatrove's MinHash on the same texts, and against counted shingles."""

import hashlib
import itertools
import random
from collections import defaultdict

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.curation.duplicates import clusters
from reelmill.curation.duplicates.pair import Pair
from reelmill.curation.duplicates.texts import text_pairs
from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create, minhash
from reelmill.curation.texts.words import split_words

NO_FRAMES = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))
CONFIG = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))


class Words:
    """The words that reelmill takes; datatrove's own tokenizer is spaCy's."""

    def word_tokenize(self, text):
        return split_words(text)


@pytest.fixture
def same_words(monkeypatch):
    monkeypatch.setattr("datatrove.pipeline.dedup.minhash.load_word_tokenizer", lambda language: Words())


@pytest.fixture(scope="module")
def theirs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datatrove.pipeline.dedup.minhash.load_word_tokenizer", lambda language: Words())
        yield MinhashDedupSignature("unused", CONFIG)


def corpus(seed=3, texts=60):
    """Texts of random words, some of them with words of an earlier one changed: 0, 2, 6 or 30 %."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefgilmnoprstu", k=rng.randint(2, 9))) for _ in range(3000)]
    found = []
    for n in range(texts):
        if n >= 20:
            words, share = found[rng.randrange(n)].split(), rng.choice([0.0, 0.02, 0.06, 0.3])
            words = [rng.choice(vocabulary) if rng.random() < share else word for word in words]
        else:
            words = rng.choices(vocabulary, k=rng.randint(40, 400))
        found.append(" ".join(words))
    return found


SENTENCE = " ".join("".join(letters) for letters in itertools.islice(itertools.permutations("mills"), 50))


def column(text):
    (row,) = create("minhash").score([Sample("s", "i", "text", 0.0, 0.0, 0, 0, 0.0, NO_FRAMES, {}, text=text)])
    return row["minhash"]


def pairs_of(texts, is_new=None):
    names = [f"{n:03d}" for n in range(len(texts))]
    new = np.ones(len(texts), bool) if is_new is None else is_new
    return list(text_pairs(names, [column(text) for text in texts], new))


def datatrove_clusters(texts, folder):
    """Sets of numbers of texts that datatrove puts into one cluster."""
    signatures = MinhashDedupSignature(str(folder / "signatures"), CONFIG)
    signatures.run([Document(text, str(n)) for n, text in enumerate(texts)], 0, 1)
    for bucket in range(CONFIG.num_buckets):
        step = MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=CONFIG)
        step.run(None, bucket, CONFIG.num_buckets)
    step = MinhashDedupCluster(str(folder / "buckets"), str(folder / "clusters"), CONFIG, save_cluster_id=True)
    step.run(None, 0, 1)
    found = defaultdict(set)
    ids = np.frombuffer((folder / "clusters" / "000000.clusters").read_bytes(), "<u4").reshape(-1, 2)
    for document, cluster in ids.tolist():
        found[cluster].add(document)
    return {frozenset(members) for members in found.values()}


def test_clusters_are_those_of_datatrove(tmp_path, monkeypatch, same_words):
    texts = corpus()
    monkeypatch.setattr("reelmill.curation.duplicates.texts.CANDIDATES", 0.0)  # datatrove does not compare further
    members = {f"{n:03d}": clusters.Member(f"{n:03d}", "kept", 0, 0.0, False, "", str(n)) for n in range(len(texts))}
    found = defaultdict(set)
    for verdict in clusters.judge(pairs_of(texts), members):
        found[verdict.cluster].add(int(verdict.sample_id))
    wanted = datatrove_clusters(texts, tmp_path)
    assert {frozenset(group) for group in found.values()} == wanted
    assert len(wanted) > 5


def test_the_signature_is_that_of_datatrove(theirs):
    text = "The 2 mills (grind) slowly; yet they grind 12.5 times as fine — said Élodie, who had seen 1,000 of them."
    ours, others = minhash.shingles(text), theirs.get_shingles(text)
    assert set(ours.tolist()) == set(others.ravel().tolist())
    assert minhash.signature(ours).tolist() == [*itertools.chain(*theirs.get_signature(others))]


HASHES = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 300).map(lambda n: 2**64 - 1 - n)), min_size=1)


@given(st.text(st.sampled_from("ab é水\u0301.,1-_\n٣"), max_size=80), HASHES)
@settings(max_examples=200, deadline=None)
def test_shingles_and_signatures_are_those_of_the_plain_arithmetic(theirs, text, numbers):
    words = split_words(minhash.simplified(text))
    grams = {" ".join(words[n : n + 5]).encode() for n in range(len(words) - 4)}
    hashed = {int.from_bytes(hashlib.sha1(gram).digest()[:8], "little") for gram in grams}
    assert sorted(minhash.shingles(text).tolist()) == sorted(hashed)
    factors, addends = theirs.parameters
    found = minhash.signature(np.array(numbers, np.uint64)).tolist()
    plain = [
        min((number * factor + addend) % 2**64 % (2**61 - 1) for number in numbers)
        for factor, addend in zip(factors.ravel().tolist(), addends.ravel().tolist(), strict=True)
    ]
    assert found == plain


@pytest.mark.parametrize("share", [0.0, 0.01, 0.02])
def test_similarity_is_the_share_of_common_shingles(share):
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefgh", k=8)) for _ in range(1500)]
    other = [word[::-1] + "x" if rng.random() < share else word for word in words]
    texts = [" ".join(words), " ".join(other).upper()]
    one, two = ({tuple(t.lower().split()[n : n + 5]) for n in range(1496)} for t in texts)
    jaccard = len(one & two) / len(one | two)
    (pair,) = pairs_of(texts)
    assert pair == Pair("000", "001", pair.similarity, "minhash")
    assert pair.similarity == pytest.approx(jaccard, abs=0.12)  # 112 draws: three deviations at most


def test_known_texts_are_paired_with_new_ones_alone():
    text = " ".join(f"w{n}" for n in range(50))
    is_new = np.array([False, False, True])
    assert {(pair.sample_id, pair.other_id) for pair in pairs_of([text] * 3, is_new)} == {
        ("000", "002"),
        ("001", "002"),
    }


def test_a_crowd_is_one_cluster_without_all_its_pairs():
    count = clusters.CROWD + 20
    pairs = pairs_of([SENTENCE] * count)
    assert len(pairs) == count - 1
    members = {f"{n:03d}": clusters.Member(f"{n:03d}", "kept", 0, 0.0, n == 7, "", str(n)) for n in range(count)}
    verdicts = clusters.judge(pairs, members)
    assert {verdict.original for verdict in verdicts} == {"007"}
    assert len(verdicts) == count


def test_a_text_too_short_for_a_shingle_has_none():
    assert column("only four words here") is None
