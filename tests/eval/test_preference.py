"""Candidates keep their tokens, votes are durable, and pairs, agreement and win rates are what the books say."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from candidates import VOCAB, rating, write_folder
from PIL import Image

from reelmill.errors import ConfigError, DataError
from reelmill.eval.generation import SamplingParams, Studio
from reelmill.eval.preference import (
    Candidates,
    Checkpoint,
    Plan,
    Tally,
    VoteFile,
    choose_pairs,
    krippendorff_alpha,
    read_vote,
    require_one_scale,
    sample,
    sample_candidates,
    strict_agreement,
    tallies,
    wilson_interval,
    win_rates,
    write_choices,
)
from reelmill.tokenize import documents
from reelmill.tokenize.shards.pairs import PairIndex, verify_pairs
from reelmill.tokenize.vision import load
from reelmill.train.model import Decoder, ModelConfig

PLAN = Plan(h=2, w=3, count=3, sampling=SamplingParams(seed=5))
PROMPTS = {0: "a cat", 1: "two dogs", 2: "rain"}
ONE = Checkpoint("/runs/one", 10, "1" * 64)


@pytest.fixture(scope="module")
def studio():
    torch.manual_seed(0)
    model = Decoder(ModelConfig(vocab_size=VOCAB.size, hidden=16, layers=1, heads=2, kv_heads=1, mlp=24)).eval()
    return Studio(model.requires_grad_(False), VOCAB, load("reelmill-tok-xs"))


def tokens_of(folder):
    candidates = Candidates(folder)
    named = list(candidates.by_id.values())
    return {one.id: (ids.tolist(), n) for one, (ids, n) in zip(named, candidates.read(named), strict=True)}


def votes_of(candidates, *rows):
    return [read_vote(row, candidates) for row in rows]


def test_sampling_goes_on_where_it_was_and_draws_what_one_run_does(studio, tmp_path, monkeypatch):
    assert list(sample(studio, ONE, PROMPTS, PLAN, tmp_path / "whole")) == [9]
    monkeypatch.setattr(sample_candidates, "PART_TOKENS", 1)
    parts = sample(studio, ONE, PROMPTS, PLAN, tmp_path / "cut")
    assert next(parts) == 3
    parts.close()
    assert len(Candidates(tmp_path / "cut")) == 3
    assert list(sample(studio, ONE, PROMPTS, PLAN, tmp_path / "cut")) == [3, 3]
    assert list(sample(studio, ONE, PROMPTS, PLAN, tmp_path / "cut")) == []
    assert tokens_of(tmp_path / "cut") == tokens_of(tmp_path / "whole")
    more = Plan(h=2, w=3, count=5, sampling=PLAN.sampling)
    assert list(sample(studio, ONE, {0: "a cat"}, more, tmp_path / "cut")) == [2]


def test_ranks_draw_disjoint_shares_of_what_one_process_draws(studio, tmp_path):
    for rank in range(2):
        mine = {place: PROMPTS[place] for place in range(rank, 3, 2)}
        list(sample(studio, ONE, mine, PLAN, tmp_path / "two"))
    list(sample(studio, ONE, PROMPTS, PLAN, tmp_path / "one"))
    assert tokens_of(tmp_path / "two") == tokens_of(tmp_path / "one")
    assert [of[0].prompt for of in Candidates(tmp_path / "two").by_prompt.values()] == list(PROMPTS.values())


def test_another_checkpoint_is_added_other_settings_are_refused(studio, tmp_path):
    list(sample(studio, ONE, PROMPTS, PLAN, tmp_path))
    other = Checkpoint("/runs/two", 20, "2" * 64)
    list(sample(studio, other, PROMPTS, PLAN, tmp_path))
    candidates = Candidates(tmp_path)
    assert candidates.checkpoints == [ONE, other] and len(candidates) == 18
    with pytest.raises(ConfigError, match=r"seed: 5 -> 6"):
        list(sample(studio, ONE, PROMPTS, Plan(h=2, w=3, sampling=SamplingParams(seed=6)), tmp_path))
    with pytest.raises(ConfigError, match="1 to 100"):
        list(sample(studio, ONE, PROMPTS, Plan(h=2, w=3, count=0), tmp_path / "none"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tokens: tokens, None),
        (lambda tokens: tokens[:-1], "no document"),
        (lambda tokens: documents.text_document(VOCAB, "words"), "blocks of [] latent frames"),
    ],
)
def test_candidates_that_are_no_picture_are_found(tmp_path, change, words):
    problems = list(write_folder(tmp_path, prompts=("a cat",), count=2, change=change).problems())
    assert len(problems) == (2 if words else 0) and all(words in problem for problem in problems)


def test_tokens_are_the_same_bytes_from_sampling_to_the_pair(studio, tmp_path):
    sampled = {}

    def on_token(progress):
        if progress.last.is_last:
            sampled[progress.last.request] = np.array(progress.tokens[progress.last.request], dtype=np.int32)

    list(sample(replace(studio, on_token=on_token), ONE, PROMPTS, PLAN, tmp_path))
    candidates = Candidates(tmp_path)
    candidates.decode(studio.vision, candidates.undecoded())
    assert candidates.undecoded() == []
    first, second, third = next(iter(candidates.by_prompt.values()))
    votes = votes_of(candidates, rating("ann", {first.id: (2, 3), second.id: (5, 5), third.id: (1, 1)}))
    chosen = choose_pairs(candidates, tallies(votes))
    path = tmp_path / "pairs" / "default" / "pairs.parquet"
    assert write_choices(candidates, chosen.choices, path, root=tmp_path) == 1
    assert verify_pairs(path, VOCAB) == []
    pair = PairIndex(path.parent).read(0)
    # Requests are in the order of prompts and numbers: those of prompt 0 are the first three.
    assert pair.chosen.tobytes() == sampled[1].tobytes() and pair.rejected.tobytes() == sampled[2].tobytes()
    assert pair.prompt == "a cat" and sampled[1][: pair.n_prompt].tolist() == sampled[2][: pair.n_prompt].tolist()
    assert pair.n_prompt == len(sampled[1]) - (2 * 4 + 3)
    row = pq.read_table(path).to_pylist()[0]
    assert (row["chosen_id"], row["rejected_id"], row["margin"], row["voters"]) == (second.id, third.id, 4.0, 1)


def test_a_picture_is_decoded_once_and_says_nothing_of_its_origin(tmp_path):
    candidates = write_folder(tmp_path, count=1)
    vision = load("reelmill-tok-xs")
    candidates.decode(vision, candidates.undecoded())
    (one, _) = candidates.by_id
    path = candidates.picture(one)
    with Image.open(path) as image:
        assert image.size == (24, 16) and image.info == {}
    path.unlink()
    assert [missing.id for missing in candidates.undecoded()] == [one]


def test_acknowledged_votes_survive_a_kill_in_the_middle_of_writing(tmp_path):
    candidates = write_folder(tmp_path)
    names = [one.id for one in next(iter(candidates.by_prompt.values()))]
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for number in range(100_000):
                votes = votes_of(candidates, rating(f"v{number}", dict.fromkeys(names, (1, 2))))
                VoteFile(tmp_path).add(votes)
                os.write(writable, b"%d\n" % number)
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as acknowledged:
        heard = [int(acknowledged.readline()) for _ in range(20)]
        os.kill(child, signal.SIGKILL)
        heard += [int(line) for line in acknowledged.read().splitlines()]
    os.waitpid(child, 0)
    there = {vote.voter for vote in VoteFile(tmp_path).read(candidates)}
    assert {f"v{number}" for number in heard} <= there


def test_a_torn_line_is_cut_and_its_neighbours_stay(tmp_path):
    candidates = write_folder(tmp_path)
    first, *_ = candidates.by_id
    file = VoteFile(tmp_path)
    file.add(votes_of(candidates, rating("ann", {first: (1, 2)})))
    whole = file.path.read_bytes()
    with file.path.open("ab") as stream:
        stream.write(b'{"voter": "bob", "sco' + b"x" * 200_000)
    assert [vote.voter for vote in file.read(candidates)] == ["ann"]
    file.add(votes_of(candidates, rating("cid", {first: (3, 3)})))
    assert file.path.read_bytes().startswith(whole)
    votes = file.read(candidates)
    assert [vote.voter for vote in votes] == ["ann", "cid"] and votes[0].at


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"voter": ""}, "printable characters"),
        ({"voter": "x" * 65}, "printable characters"),
        ({"voter": "a\nb"}, "printable characters"),
        ({"voter": "\ud800"}, "printable characters"),
        ({"voter": 3}, "printable characters"),
        ({"kind": "decree"}, "it must be rating"),
        ({"kind": ["rating"]}, "it must be rating"),
        ({"scores": {}}, "a vote is"),
        ({"scores": []}, "has 0 prompts"),
        ({"scores": [{"candidate_id": "../../etc/passwd", "appeal": 1}]}, "there is no candidate"),
        ({"scores": [{"candidate_id": {}, "appeal": 1}]}, "there is no candidate"),
        ({"scores": ["x"]}, "there is no candidate"),
        ({"prompt_id": "other"}, "the candidates are of"),
        ({"at": "yesterday"}, "ISO 8601"),
        ({"at": ["2026-01-01"]}, "ISO 8601"),
        ({"admin": True}, "unknown fields"),
    ],
)
def test_votes_that_are_none_are_refused(tmp_path, change, says):
    candidates = write_folder(tmp_path)
    first, *_ = candidates.by_id
    with pytest.raises(DataError, match=says):
        read_vote({**rating("ann", {first: (1, 2)}), **change}, candidates)


@pytest.mark.parametrize("score", [0, 6, 2.5, True, "3", float("nan"), 10**400, [1]])
def test_a_rating_is_a_whole_number_from_1_to_5(tmp_path, score):
    candidates = write_folder(tmp_path)
    first, *_ = candidates.by_id
    with pytest.raises(DataError, match="a rating must be 1, 2, 3, 4 or 5"):
        read_vote(rating("ann", {first: (score, 1)}), candidates)
    if score not in (0, 6, 2.5):
        with pytest.raises(DataError, match="a score must be a number"):
            read_vote({**rating("ann", {first: (score, 1)}), "kind": "score"}, candidates)


def test_comparisons_and_candidates_must_go_together(tmp_path):
    candidates = write_folder(tmp_path)
    cats, dogs = candidates.by_prompt.values()
    a, b, c = (one.id for one in cats)
    good = {**rating("ann", {a: (1, 0.5), b: (0, 0.5)}), "kind": "comparison"}
    assert read_vote(good, candidates).scores[a] == {"appeal": 1, "alignment": 0.5}
    for scores, says in (
        ({a: (1, 1), b: (0, 1)}, "gives 1 and 0"),
        ({a: (1, 1)}, "of 2 candidates"),
        ({a: (1, 1), b: (0, 0), c: (0, 0)}, "of 2 candidates"),
        ({a: (1, 1), dogs[0].id: (0, 0)}, "has 2 prompts"),
    ):
        with pytest.raises(DataError, match=says):
            read_vote({**rating("ann", scores), "kind": "comparison"}, candidates)
    with pytest.raises(DataError, match="different candidates"):
        read_vote({"voter": "ann", "scores": [{"candidate_id": a, "appeal": 1}] * 2}, candidates)


def test_a_bad_line_is_named(tmp_path):
    candidates = write_folder(tmp_path)
    first, *_ = candidates.by_id
    for bad in (b"[" * 100_000, b"{", b'{"voter": "x"}', b'"' + b"x" * 70_000 + b'"', b"\xff\xfe"):
        (tmp_path / "votes.jsonl").write_bytes(
            json.dumps(rating("ann", {first: (1, 1)})).encode() + b"\n" + bad + b"\n"
        )
        with pytest.raises(DataError, match=r"votes\.jsonl, line 2"):
            VoteFile(tmp_path).read(candidates)


def test_best_and_worst_of_all_voters_and_how_ties_fall(tmp_path):
    candidates = write_folder(tmp_path, prompts=("a", "b", "c", "d"))
    by_prompt = {of[0].prompt: [one.id for one in of] for of in candidates.by_prompt.values()}
    rows = [
        # a: means over two voters and two questions are 3, 3, 1.5: the first drawn of the two best.
        rating("ann", dict(zip(by_prompt["a"], [(4, 2), (3, 3), (1, 2)], strict=True))),
        rating("bob", dict(zip(by_prompt["a"], [(3, 3), (3, 3), (1, 2)], strict=True))),
        # b: nobody tells them apart. c: one voter only. d: the second voter has not judged all.
        rating("ann", dict(zip(by_prompt["b"], [(4, 2), (2, 4), (3, 3)], strict=True))),
        rating("bob", dict(zip(by_prompt["b"], [(3, 3)] * 3, strict=True))),
        rating("ann", dict(zip(by_prompt["c"], [(1, 1), (1, 2), (2, 2)], strict=True))),
        rating("ann", dict(zip(by_prompt["d"], [(1, 1), (1, 2), (2, 2)], strict=True))),
        rating("bob", dict(zip(by_prompt["d"][:2], [(5, 5), (1, 1)], strict=True))),
    ]
    found = tallies(votes_of(candidates, *rows))
    strict = choose_pairs(candidates, found, least_voters=2)
    assert [(c.chosen.id, c.rejected.id) for c in strict.choices] == [(by_prompt["a"][0], by_prompt["a"][2])]
    assert (strict.choices[0].margin, strict.choices[0].voters) == (1.5, 2)
    assert (strict.tied, strict.too_few_voters) == (1, 2)
    loose = choose_pairs(candidates, found)
    assert [c.chosen.prompt for c in loose.choices] == ["a", "c", "d"]
    assert loose.choices[2].chosen.id == by_prompt["d"][2], "half a vote does not count"
    assert [c.chosen.prompt for c in choose_pairs(candidates, found, margin=1.5).choices] == ["a"]
    assert choose_pairs(candidates, found, margin=1.6).choices == []
    again = tallies(
        votes_of(candidates, *rows, rating("bob", dict(zip(by_prompt["a"], [(1, 1)] * 2 + [(5, 5)], strict=True))))
    )
    (choice, *_) = choose_pairs(candidates, again, least_voters=2).choices
    assert choice.chosen.id == by_prompt["a"][2], "the latest vote counts"


def test_scales_without_a_common_mean_are_refused(tmp_path):
    candidates = write_folder(tmp_path)
    first, *_ = candidates.by_id
    people = rating("ann", {first: (1, 1)})
    scorers = [
        {"voter": n, "kind": "score", "scores": [{"candidate_id": first, "appeal": 0.2}]} for n in ("clip", "quality")
    ]
    votes = votes_of(candidates, people, *scorers)
    for voters in ((), ("clip", "quality")):
        with pytest.raises(ConfigError, match="different scales"):
            require_one_scale(votes, voters)
    assert require_one_scale(votes, ["ann"]) == "rating" and require_one_scale(votes, ["clip"]) == "score"
    with pytest.raises(ConfigError, match="no votes of dan; voters: ann, clip, quality"):
        tallies(votes, ["dan"])
    with pytest.raises(ConfigError, match="no votes yet"):
        require_one_scale([])


def test_krippendorff_s_alpha_of_krippendorff_s_own_example():
    """ "Computing Krippendorff's Alpha-Reliability" (2011), section E: 4 observers, 12 units, missing data."""
    observers = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    assert {len(row) for row in observers} == {12}
    units = [{str(n): float(row[u]) for n, row in enumerate(observers) if row[u] != "."} for u in range(12)]
    for metric, alpha in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert krippendorff_alpha(units, metric) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_1_where_all_agree_about_0_by_chance_and_none_without_a_difference():
    rng = np.random.default_rng(0)
    agreed = [dict.fromkeys("abc", float(value)) for value in rng.integers(1, 6, 50)]
    assert krippendorff_alpha(agreed) == pytest.approx(1.0)
    chance = [{voter: float(rng.integers(1, 6)) for voter in "abc"} for _ in range(4000)]
    assert abs(krippendorff_alpha(chance)) < 0.03
    assert krippendorff_alpha([{"a": 3.0, "b": 3.0}] * 9) is None
    assert krippendorff_alpha([{"a": 3.0}, {"a": 1.0}]) is None


def test_two_voters_who_both_prefer_agree_or_not():
    said = {"ann": {"x": 1, "y": 2, "z": 3}, "bob": {"x": 1, "y": 1, "z": 5}, "cid": {"x": 9, "y": 5, "z": 7}}
    tally = Tally({voter: {name: {"appeal": float(v)} for name, v in of.items()} for voter, of in said.items()})
    # xy: ann <, bob =, cid >: one pair of voters, against. xz: < < >: ann-bob agree, two against. yz: all three agree.
    assert strict_agreement([tally], "appeal") == (0 + 1 + 3, 1 + 3 + 3)


@pytest.mark.parametrize(
    ("wins", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_s_interval_as_in_newcombe(wins, trials, low, high):
    """R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3."""
    assert wilson_interval(wins / trials, trials) == pytest.approx((low, high), abs=5e-5)


def test_win_rates_count_prompts_not_votes_and_a_tie_half(tmp_path):
    candidates = write_folder(tmp_path, prompts=("a", "b", "c"), count=1, checkpoints=("old", "new"))
    pairs = {of[0].prompt: [one.id for one in of] for of in candidates.by_prompt.values()}

    def said(voter, prompt, appeal, alignment):
        old, new = pairs[prompt]
        return {**rating(voter, {old: (appeal, alignment), new: (1 - appeal, 1 - alignment)}), "kind": "comparison"}

    votes = votes_of(
        candidates,
        said("ann", "a", 1, 1), said("bob", "a", 1, 0.5), said("cid", "a", 0, 0.5),
        said("ann", "b", 0, 1),
        said("ann", "c", 0.5, 0.5),
    )  # fmt: skip
    rates = {rate.question: rate for rate in win_rates(candidates, tallies(votes))}
    appeal, both = rates["appeal"], rates["both"]
    assert (appeal.one.place, appeal.other.place) == ("/secret/old", "/secret/new")
    assert (appeal.wins, appeal.ties, appeal.losses, appeal.prompts) == (2, 1, 2, 3)
    assert appeal.rate == pytest.approx((2 / 3 + 0 + 0.5) / 3)
    assert (appeal.low, appeal.high) == wilson_interval(appeal.rate, 3)
    assert both.rate == pytest.approx(((1 + 0.75 + 0.25) / 3 + 0.5 + 0.5) / 3)
    (choice,) = [c for c in choose_pairs(candidates, tallies(votes)).choices if c.chosen.prompt == "a"]
    assert choice.chosen.id == pairs["a"][0] and choice.voters == 3 and choice.chosen_score == pytest.approx(2 / 3)


def test_win_rates_come_from_ratings_too(tmp_path):
    candidates = write_folder(tmp_path, prompts=("a",), count=2, checkpoints=("old", "new"))
    old0, old1, new0, new1 = (one.id for one in next(iter(candidates.by_prompt.values())))
    votes = votes_of(candidates, rating("ann", {old0: (1, 3), old1: (2, 3), new0: (5, 3), new1: (1, 4)}))
    rates = {rate.question: rate for rate in win_rates(candidates, tallies(votes))}
    assert (rates["appeal"].wins, rates["appeal"].losses, rates["appeal"].rate) == (1, 1, 0.5)
    assert (rates["alignment"].ties, rates["alignment"].losses) == (1, 1)


def test_a_vote_that_was_changed_or_taken_out_is_seen(tmp_path):
    candidates = write_folder(tmp_path)
    first, *_ = candidates.by_id
    file = VoteFile(tmp_path)
    file.path.write_text(json.dumps(rating("by hand", {first: (1, 1)})) + "\n")
    for voter in ("ann", "bob"):
        file.add(votes_of(candidates, rating(voter, {first: (1, 2)})))
    voters = ["by hand", "ann", "bob"]
    whole = file.path.read_bytes()
    assert [vote.voter for vote in file.read(candidates)] == voters
    by_hand, *checked = whole.splitlines(keepends=True)
    for place in range(len(by_hand), len(whole)):
        for flipped in (whole[place] ^ 1, 0x0A, 0x0D):
            if flipped != whole[place]:
                file.path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
                with pytest.raises(DataError, match=r"votes\.jsonl, "):
                    file.read(candidates)
    file.path.write_bytes(by_hand + checked[1])
    with pytest.raises(DataError, match=r"line 2: it, or the line before it, is not what was written"):
        file.read(candidates)
    file.path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DataError, match="the end of the last line"):
        file.add(votes_of(candidates, rating("cid", {first: (3, 3)})))
    file.path.write_bytes(whole)
    file.add(votes_of(candidates, rating("cid", {first: (3, 3)})))
    assert [vote.voter for vote in file.read(candidates)] == [*voters, "cid"]
