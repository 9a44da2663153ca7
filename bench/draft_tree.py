"""Would exact parallel decoding gain from a tree of drafts? Passes by the shape of what a pass reads.

    python bench/draft_tree.py WORK [--pictures 6] [--shapes 8 16 2x8 2x2x6 ...]

The model and world are those of `bench/windows.py`, in WORK. A shape such as 2x8 is a tree: 2 drafts for the next code
and, behind each of them, the same chain of drafts up to 8 codes in all; 2x2x6 has 2 drafts each for the next two codes
and 4 chains. 8 is the plain window of `--decode exact-parallel`. Several drafts of a code are drawn from its law
without replacement and tried one after the other (Miao et al. 2024, arXiv 2305.09781; proactive drafting of SJD-PAC,
arXiv 2603.18599), so the pictures follow the law of plain decoding whatever the shape; their mean nats are printed to
show it. What is counted is passes and tokens read a picture. Each branch is computed as a document of its own here, so
the time that this script takes says nothing.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from windows import VOCAB, base_model

from reelmill.eval.generation import image_request
from reelmill.eval.generation.coupling import transition
from reelmill.tokenize.documents import Grammar
from reelmill.train import checkpoint
from reelmill.train.categorical import choose
from reelmill.train.model import Decoder

CODES = VOCAB.codes


class Drawing:
    """A picture of `side` x `side` codes that is drawn with trees of one shape; codes are counted without ends of rows.

    `laws`: of each code that was settled or drafted, the newest law that its sample follows.
    """

    def __init__(self, model: Decoder, prompt: list[int], side: int, shape: list[int], seed: int) -> None:
        self.model, self.prompt, self.side = model, prompt, side
        *self.choices, self.length = shape
        self.random = torch.Generator().manual_seed(seed)
        self.codes: list[int] = []
        self.drafts: list[int] = []
        self.laws: list[Tensor] = []
        self.passes = self.read = 0
        self.nats = 0.0

    def draw(self) -> None:
        """Settle all codes."""
        while len(self.codes) < self.side**2:
            self._pass()

    def _pass(self) -> None:
        """One pass over the branches of the tree; settles a code or more.

        `laws` has one entry more than there are drafts: the last code of the window is sampled, not drafted.
        """
        settled = len(self.codes)
        window = min(self.length, self.side**2 - settled)
        while len(self.drafts) < window - 1:
            law = self._guess()
            self.drafts.append(self._choose(law))
            self.laws.append(law)
        drafted = self.laws[settled : settled + window - 1]
        options = [
            self._siblings(law, draft, count)
            for law, draft, count in zip(drafted, self.drafts, self.choices, strict=False)
        ]
        chain = self.drafts[len(options) : window - 1]
        branches = [[*head, *chain] for head in itertools.product(*options)]
        new = self._laws_of(branches, window)
        self.passes += 1
        self.read += self._nodes([len(option) for option in options], window)
        kept = list(range(len(branches)))
        tokens: list[int] = []
        right = True
        for place in range(window):
            law = new[kept[0], place]
            if place == window - 1:
                token = self._choose(law)
            elif right and place < len(options):
                token = self._tried(law, drafted[place], options[place])
            else:
                one = torch.tensor([branches[kept[0]][place]])
                token = self._choose(transition(law[None], drafted[place][None], one)[0])
            if right:
                self.codes.append(token)
                self.nats -= float(law[token].log())
                follow = [branch for branch in kept if place < window - 1 and branches[branch][place] == token]
                right, kept = bool(follow), follow or kept
            else:
                tokens.append(token)
            self.laws[settled + place : settled + place + 1] = [law]
        self.drafts = tokens

    def _guess(self) -> Tensor:
        """The law of a new draft: that of the code above it, else the newest; see `WindowSampler.propose`."""
        known = self.laws
        if not known:
            return torch.full((CODES,), 1 / CODES, dtype=torch.float64)
        return known[-self.side] if len(known) >= self.side else known[-1]

    def _siblings(self, law: Tensor, first: int, count: int) -> list[int]:
        """`first` and more drafts of the law without replacement, as many as it has up to `count`."""
        found, rest = [first], law.clone()
        for _ in range(count - 1):
            rest[found[-1]] = 0
            if float(rest.sum()) <= 0:
                break
            found.append(self._choose(rest))
        return found

    def _tried(self, law: Tensor, drafted: Tensor, siblings: list[int]) -> int:
        """A sample of `law`: one of the siblings as often as they can be tried, else what is left of it."""
        left, q = law, drafted / drafted.sum()
        for token in siblings:
            if float(torch.rand((), generator=self.random)) * float(q[token]) < float(left[token]):
                return token
            left = (left - q).clamp(min=0)
            left = left / left.sum()
            q = q.clone()
            q[token] = 0
            q = q / q.sum()
        return self._choose(left)

    def _laws_of(self, branches: list[list[int]], window: int) -> Tensor:
        """The model's laws [branches, window, codes] of the codes behind those that are settled."""
        whole = [self._tokens([*self.codes, *branch]) for branch in branches]
        places = [len(self._tokens([*self.codes, *branches[0][:place]])) - 1 for place in range(window)]
        with torch.inference_mode():
            ids = torch.tensor(whole)
            positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
            hidden = self.model(ids.reshape(1, -1), positions.reshape(1, -1), [ids.shape[1]] * len(ids))
            states = hidden.view(len(ids), ids.shape[1], -1)[:, places]
            logits = states @ self.model.lm_head.weight[VOCAB.vision_start : VOCAB.vision_stop].t()
        return torch.softmax(logits.double(), -1)

    def _tokens(self, codes: list[int]) -> list[int]:
        """The document up to these codes, and the end of the row behind them if one is complete."""
        ids = list(self.prompt)
        for number, code in enumerate(codes, 1):
            ids.append(VOCAB.vision_start + code)
            if number % self.side == 0:
                ids.append(VOCAB.eol)
        return ids

    def _choose(self, law: Tensor) -> int:
        return int(choose(law[None], torch.rand(1, generator=self.random, dtype=torch.float64))[0])

    @staticmethod
    def _nodes(widths: list[int], window: int) -> int:
        """Tokens that a pass over the tree reads: the last settled one, and each draft once for each branch to it."""
        each = np.cumprod([1, *widths]).tolist()
        return int(sum(each) + each[-1] * (window - 1 - len(widths)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--shapes", nargs="+", default=["8", "12", "16", "24", "2x8", "3x8", "2x2x6", "2x24"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, vocab, _ = checkpoint.load_decoder(base_model(args.work, args.side))

    prompt = [
        int(token)
        for token in np.asarray(image_request(Grammar(vocab, one_block=True), "", args.side, args.side).prompt)
    ]
    for shape in args.shapes:
        drawings = [
            Drawing(model, prompt, args.side, [int(size) for size in shape.split("x")], seed)
            for seed in range(args.pictures)
        ]
        for drawing in drawings:
            drawing.draw()
        nats = np.array([drawing.nats / args.side**2 for drawing in drawings])
        print(
            f"{shape:6} {np.mean([drawing.passes for drawing in drawings]):6.1f} passes a picture, "
            f"{np.mean([drawing.read / drawing.passes for drawing in drawings]):5.1f} tokens read a pass, "
            f"{nats.mean():.3f} +- {nats.std() / len(nats) ** 0.5:.3f} nats a code",
            flush=True,
        )


if __name__ == "__main__":
    main()
