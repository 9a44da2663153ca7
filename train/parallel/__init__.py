"""The ranks of a run, how model and batch are laid out over them, and a decoder built in that layout.

There is one code path: a single process is a group of one, and the CPU (gloo) runs the same code as CUDA (NCCL).
"""

from reelmill.train.parallel.decoder import Precision, clip_gradients, initialize, placed_like, sharded_decoder
from reelmill.train.parallel.layout import Layout, ParallelConfig
from reelmill.train.parallel.ranks import Device, Ranks, is_lost_rank, join_ranks

__all__ = [
    "Device",
    "Layout",
    "ParallelConfig",
    "Precision",
    "Ranks",
    "clip_gradients",
    "initialize",
    "is_lost_rank",
    "join_ranks",
    "placed_like",
    "sharded_decoder",
]
