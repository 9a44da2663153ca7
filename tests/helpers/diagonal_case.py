"""Pictures in the order of their diagonals behind the tokens before them, as training lays them out."""

import numpy as np
import torch

from reelmill.train.diagonals import diagonals_of
from reelmill.train.two_streams import PictureCopy, TwoStreams


def states_behind(model, vocab, tokens, begin, stop):
    """(codes' places in `tokens`, the states of both heads for them) of the picture from IMG at `begin` to `stop`."""
    found = diagonals_of(vocab, tokens[begin:stop])
    order = np.argsort(found.groups, kind="stable")
    place = begin + np.argsort(order)
    ids = torch.tensor([*tokens[:begin], *np.array(tokens)[begin + order]])
    positions = torch.tensor([*range(begin), *(begin + order)])
    copy = PictureCopy(stop - begin, 0, begin, tuple(np.bincount(found.groups)))
    visible = TwoStreams([begin], [copy], torch.device("cpu"))
    left, above = torch.tensor(place[found.left]), torch.tensor(np.where(found.above < 0, -1, place[found.above]))
    return begin + found.codes, model.diagonal(ids[None], positions[None], left, above, visible=visible)
