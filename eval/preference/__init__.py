"""Preferences: candidates, votes, and the pairs and win rates that are computed from them."""

from reelmill.eval.preference.agreement import krippendorff_alpha
from reelmill.eval.preference.candidates import Candidate, Candidates, Checkpoint
from reelmill.eval.preference.pairs import Choice, ChosenPairs, choose_pairs, write_choices
from reelmill.eval.preference.sample_candidates import Plan, checkpoint_of, sample
from reelmill.eval.preference.tally import Tally, require_one_scale, strict_agreement, tallies, units
from reelmill.eval.preference.votes import QUESTIONS, RATINGS, Vote, VoteFile, read_vote, read_votes, voter_name
from reelmill.eval.preference.winrates import WinRate, matches, wilson_interval, win_rates

__all__ = [
    "QUESTIONS",
    "RATINGS",
    "Candidate",
    "Candidates",
    "Checkpoint",
    "Choice",
    "ChosenPairs",
    "Plan",
    "Tally",
    "Vote",
    "VoteFile",
    "WinRate",
    "checkpoint_of",
    "choose_pairs",
    "krippendorff_alpha",
    "matches",
    "read_vote",
    "read_votes",
    "require_one_scale",
    "sample",
    "strict_agreement",
    "tallies",
    "units",
    "voter_name",
    "wilson_interval",
    "win_rates",
    "write_choices",
]
