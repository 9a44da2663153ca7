"""The reference of preference training, the model that it starts from: its stored log-probabilities, or the model.

    RUN/reference/<digest>.parquet      pair_id, chosen, rejected: sums of log-probabilities over a document's tokens

The digest covers the bytes of the reference's weights and all that the numbers depend on beside a pair's own tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from reelmill.errors import ConfigError, DataError
from reelmill.files import sha256, write_atomically
from reelmill.train import checkpoint
from reelmill.train.config import TrainConfig
from reelmill.train.init_from import load_init_weights
from reelmill.train.model import Decoder
from reelmill.train.objectives.preference.data import PairCorpus, PairLoader
from reelmill.train.objectives.preference.rows import log_probs
from reelmill.train.parallel import Layout, sharded_decoder


def frozen_reference(config: TrainConfig, corpus: PairCorpus, layout: Layout, log_fn: Callable[[str], None]) -> Decoder:
    """The model that `config.init` names, split as the trained one is, in evaluation mode; ConfigError without one."""
    if not config.init:
        raise ConfigError(
            "preference.loss dpo and ipo compare with the model that training begins with: name it with --set init=RUN "
            "(a checkpoint, a training run or a folder in Hugging Face's layout), or set preference.loss to simpo."
        )
    model = sharded_decoder(config.model, layout, config.precision, config.seed)
    found = load_init_weights(Path(config.init), model, corpus.vocab, corpus.tokenizer)
    log_fn(f"the reference has the {found}")
    return model.requires_grad_(False).eval()


def stored_reference(
    config: TrainConfig,
    corpus: PairCorpus,
    loaders: Sequence[PairLoader],
    layout: Layout,
    out: Path,
    log_fn: Callable[[str], None],
) -> Tensor:
    """Log-probabilities float64 [pairs of the corpus, 2] on each rank: read from `out`, or computed and written there.

    Pairs of no loader have NaN. While they are computed a second model exists, before the optimizer has any state.
    """
    ranks = layout.ranks
    # One rank reads the weights for all; the others wait for the result.
    with ranks.together():
        digest = _digest(config) if ranks.is_first else ""
    path = out / "reference" / f"{ranks.gather([digest])[0]}.parquet"
    with ranks.together():
        found = _read(path, corpus)
    wanted = np.concatenate([loader.pairs for loader in loaders])
    if ranks.any(found is None or bool(np.isnan(found[wanted]).any())):
        found = _computed(config, corpus, loaders, layout, log_fn)
        with ranks.together():
            if ranks.is_first:
                write_atomically(path, lambda temporary: _write(temporary, corpus, found))
                log_fn(f"wrote {path}")
    assert found is not None
    return torch.from_numpy(found).to(ranks.device)


def _computed(
    config: TrainConfig,
    corpus: PairCorpus,
    loaders: Sequence[PairLoader],
    layout: Layout,
    log_fn: Callable[[str], None],
) -> np.ndarray:
    model = frozen_reference(config, corpus, layout, log_fn)
    values = torch.zeros(len(corpus), 2, dtype=torch.float64, device=layout.ranks.device)
    for loader in loaders:
        packing = loader.packing(0)
        for start in range(0, packing.rows, layout.data_size):
            row = start + layout.data_index
            pairs, found = log_probs(model, loader.build([packing.row(row) if row < packing.rows else None]), layout)
            values[pairs.numbers] = found / layout.config.context
    numbers = layout.sum(values).cpu().numpy()
    left_out = np.setdiff1d(np.arange(len(corpus)), np.concatenate([loader.pairs for loader in loaders]))
    numbers[left_out] = np.nan
    return numbers


def _digest(config: TrainConfig) -> str:
    """32 hex digits of the reference's weights and of how log-probabilities are taken."""
    if not config.init:
        return ""
    data = config.data
    how = [data.text_weight, data.structure_weight, data.vision_weight, data.ends_weight, config.precision]
    return hashlib.sha256(json.dumps([weights_fingerprint(Path(config.init)), *how]).encode()).hexdigest()[:32]


def weights_fingerprint(place: Path) -> str:
    """Hex digest of the bytes of the weights of a checkpoint, a training run or a Hugging Face folder."""
    folder = place
    if not (place / "config.json").is_file():
        last = checkpoint.find(place)
        if last is None:
            raise ConfigError(f"init is {str(place)!r}: no checkpoint, and no folder in Hugging Face's layout.")
        folder = last / "model"
    files = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256("\n".join(f"{path.name} {sha256(path)}" for path in files).encode()).hexdigest()


def _write(path: Path, corpus: PairCorpus, values: np.ndarray) -> None:
    columns = {"pair_id": pa.array(corpus.ids), "chosen": values[:, 0], "rejected": values[:, 1]}
    pq.write_table(pa.table(columns), path, write_page_checksum=True)


def _read(path: Path, corpus: PairCorpus) -> np.ndarray | None:
    """float64 [pairs, 2], NaN for pairs that the file has not; None where there is no file."""
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, use_threads=False, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error}. Delete it: it is computed again.") from error
    known = dict(
        zip(
            table["pair_id"].to_pylist(),
            zip(*(table[n].to_pylist() for n in ("chosen", "rejected")), strict=True),
            strict=True,
        )
    )
    return np.array([known.get(pair, (np.nan, np.nan)) for pair in corpus.ids], dtype=np.float64)
