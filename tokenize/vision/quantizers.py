"""Quantizers by name."""

from __future__ import annotations

import math
from typing import Literal

from reelmill.errors import ConfigError
from reelmill.tokenize.vision.index_backprop import IndexBackprop
from reelmill.tokenize.vision.quantize import FiniteScalar, NearestCode, Quantizer


def make_quantizer(kind: Literal["nearest", "fsq", "ibq"], codes: int, levels: tuple[int, ...], dim: int) -> Quantizer:
    """The quantizer that a configuration names.

    Raises ConfigError when `kind` is unknown or the levels of `fsq` do not multiply to `codes`.
    """
    if kind == "nearest":
        return NearestCode(codes, dim)
    if kind == "ibq":
        return IndexBackprop(codes, dim)
    if kind != "fsq":
        raise ConfigError(f"quantizer {kind!r}; allowed: nearest, fsq, ibq")
    if math.prod(levels) != codes:
        raise ConfigError(
            f"levels {list(levels)} multiply to {math.prod(levels)}, but codes is {codes}; make them equal"
        )
    return FiniteScalar(levels, dim)
