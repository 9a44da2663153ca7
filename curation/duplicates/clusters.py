"""Which member of a group of copies stays, and why.

The best stays; what is a copy of it goes. What is left and no copy of the one that stays is judged in the same way, so
that nothing is dropped for being a copy of a copy. A crowd, such as a page that everybody mirrors, is not taken apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reelmill.curation.duplicates.pair import Pair

CROWD = 64
"""A cluster of more members than this is taken as one: all are copies of the best."""
_STATUS = {"kept": 2, "undecided": 1, "rejected": 0}


@dataclass(frozen=True)
class Member:
    """What decides between copies, the more important first: what the rules say, pixels, quality, a caption, age."""

    sample_id: str
    status: str
    pixels: int
    quality: float
    has_caption: bool
    crawled: str
    uri: str

    def rank(self) -> tuple[tuple[str, object], ...]:
        """Criteria by name, each the better the greater; the oldest wins, then the first by name."""
        return (
            ("rules", _STATUS[self.status]),
            ("resolution", self.pixels),
            ("quality", self.quality),
            ("caption", self.has_caption),
        )

    def key(self) -> tuple[object, ...]:
        """Sorts the best first."""
        better = [-value for _, value in self.rank()]  # type: ignore[operator]
        return (*better, self.crawled or "9999", self.uri, self.sample_id)


@dataclass(frozen=True)
class Verdict:
    """Of a member: its cluster, the sample that stays in its place (its own id if it stays), and why that one."""

    sample_id: str
    cluster: str
    original: str
    similarity: float | None
    method: str | None
    reason: str


def judge(pairs: Iterable[Pair], members: Mapping[str, Member]) -> list[Verdict]:
    """Verdicts over all members of clusters of two or more. Pairs with samples that are no members do not count."""
    copies: dict[str, dict[str, Pair]] = defaultdict(dict)
    for pair in pairs:
        if pair.sample_id in members and pair.other_id in members:
            copies[pair.sample_id][pair.other_id] = pair
            copies[pair.other_id][pair.sample_id] = pair
    verdicts = []
    for group in _connected(copies):
        ranked = sorted((members[sample_id] for sample_id in group), key=Member.key)
        verdicts += _judge_group(ranked, copies)
    return verdicts


def _judge_group(ranked: Sequence[Member], copies: Mapping[str, Mapping[str, Pair]]) -> list[Verdict]:
    cluster, left, verdicts = ranked[0].sample_id, list(ranked), []
    is_crowd = len(ranked) > CROWD
    while left:
        best, *others = left
        mine = others if is_crowd else [other for other in others if other.sample_id in copies[best.sample_id]]
        reason = _reason(best, mine[0]) if mine else "no copy of what stays"
        verdicts.append(Verdict(best.sample_id, cluster, best.sample_id, None, None, reason))
        for other in mine:
            near = copies[other.sample_id]
            pair = near.get(best.sample_id) or max(near.values(), key=lambda pair: pair.similarity)
            reason = _reason(best, other)
            verdicts.append(Verdict(other.sample_id, cluster, best.sample_id, pair.similarity, pair.method, reason))
        left = [other for other in others if other not in mine]
    return verdicts


def _reason(best: Member, other: Member) -> str:
    """The first criterion in which the best is better."""
    differ = [name for (name, mine), (_, others) in zip(best.rank(), other.rank(), strict=True) if mine != others]
    return differ[0] if differ else "age" if best.crawled != other.crawled else "name"


def _connected(copies: Mapping[str, Mapping[str, Pair]]) -> list[list[str]]:
    """Groups of samples that hang together by pairs."""
    seen: set[str] = set()
    groups = []
    for start in sorted(copies):
        group, open_ = [], [start]
        while open_:
            one = open_.pop()
            if one not in seen:
                seen.add(one)
                group.append(one)
                open_ += copies[one]
        if group:
            groups.append(group)
    return groups
