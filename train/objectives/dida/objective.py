"""The objective of DiDA: give back the codes of noisy pictures, all at once, and go on predicting the next token.

The paper (arXiv 2510.26583, section 4.3) gives the mask and the data, pictures that the autoregressive model drew
itself. The rest is URSA's (arXiv 2510.24717) or chosen here: the model is told no time; one time is drawn for each
picture or latent frame by itself; the loss is the plain cross-entropy of the codes, whatever the time; predictions stay
shifted by one, so that IMG predicts the first code and each end of a row the first code of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reelmill.errors import ConfigError
from reelmill.tokenize.vision import load_by_fingerprint
from reelmill.train.config import TrainConfig
from reelmill.train.data.batches import Batch
from reelmill.train.model import Decoder
from reelmill.train.objectives.by_kind import KIND_NAMES, as_tensors, sums_by_kind
from reelmill.train.objectives.copies import backend_of_copies
from reelmill.train.objectives.dida.noise import NoisyBatch, with_noise
from reelmill.train.objectives.dida.path import LATEST, MetricPath, fitted_path, shifted
from reelmill.train.objectives.interface import BatchLoss
from reelmill.train.objectives.next_token import NextToken
from reelmill.train.two_streams import PictureCopy, TwoStreams


@dataclass(kw_only=True)
class DidaConfig:
    """How noisy pictures are made, and what they weigh."""

    shift: float = 1.0
    """More of the times near noise, t / (t + shift (1 - t)), in training and in generation; for large pictures."""
    next_token_weight: float = 1.0
    """Weight of the next-token loss of the clean documents, whose kinds weigh what [data] says. Without it the weights
    that both share forget how to write."""
    tokenizer: str = ""
    """The vision tokenizer whose codebook the noise follows, where it is not a shipped one (a file or a folder)."""

    def check(self) -> None:
        """Raise ConfigError for numbers that mean nothing."""
        if not self.shift > 0:
            raise ConfigError(f"dida.shift is {self.shift}; it must be above 0, 1 for none.")
        if not self.next_token_weight >= 0:
            raise ConfigError(f"dida.next_token_weight is {self.next_token_weight}; it must be 0 or more.")


class Dida(NextToken):
    """Denoise the pictures of a corpus, and predict its documents."""

    name: ClassVar[str] = "dida"
    shown: ClassVar[tuple[str, ...]] = ("denoising", *KIND_NAMES)
    copied: ClassVar[float] = 1.0
    Config: ClassVar[type] = DidaConfig

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """Raise ConfigError for settings that mean nothing, and for rows that ranks share."""
        cls.settings_of(config).check()
        if config.parallel.context > 1:
            raise ConfigError(f"parallel.context is {config.parallel.context}; the objective dida needs whole rows: 1.")

    @cached_property
    def path(self) -> MetricPath:
        """The path of the vision tokenizer that made the codes."""
        tokenizer = load_by_fingerprint(self.source.tokenizer, self.settings.tokenizer or None)
        return fitted_path(tokenizer.codebook().to(self.layout.ranks.device))

    def micro_batches(self, step: int) -> list[Batch]:
        """This rank's rows of the step, with noisy copies of their pictures."""
        return [self._noisy(batch, step) for batch in super().micro_batches(step)]

    def denominators(self, batch: Batch) -> list[float]:
        """The weight of the batch's tokens, and the number of noisy codes."""
        assert isinstance(batch, NoisyBatch)
        return [*super().denominators(batch), float(len(batch.noise.codes))]

    def loss(self, model: Decoder, batch: Batch, denominators: list[float]) -> BatchLoss:
        """Means over the global batch: of the noisy codes, and `next_token_weight` times that of the documents.

        sums: as of `NextToken`, then NLL of the noisy codes and their number.
        """
        assert isinstance(batch, NoisyBatch)
        of_token, of_code = (1 / (denominator or 1.0) for denominator in denominators)
        hidden, targets, kinds, weights, is_noisy = self._forward(model, batch)
        scale = torch.where(is_noisy, of_code, self.settings.next_token_weight * of_token)
        total, nll, log_z = model.lm_head.loss(hidden, targets, weights * scale, self.config.z_loss)
        z_loss = self.config.z_loss * (log_z.square() * weights * scale).sum()
        own = torch.stack((total.detach().double(), z_loss.double()))
        sums = torch.cat((own, sums_by_kind(nll, kinds).flatten(), _noisy_sums(nll, weights, is_noisy)))
        clean = nll[:, : batch.tokens.size].view(batch.tokens.shape)
        return BatchLoss(total, sums, clean)

    def metrics(self, sums: Tensor) -> dict[str, float]:
        """As of `NextToken`; `denoising` is nats a noisy code."""
        noisy, codes = sums[-2:].tolist()
        return super().metrics(sums[:-2]) | ({"denoising": noisy / codes} if codes else {})

    def validate(self, model: Decoder) -> dict[str, Any]:
        """As of `NextToken`, and the nats of held-out codes at times and under noise that are always the same."""
        found = super().validate(model)
        if self.heldout is not None:
            noisy, codes = self._validate_noisy(model, self.heldout.packing(0).rows).tolist()
            found["validation"] |= {"denoising": noisy / codes} if codes else {}
        return found

    @torch.no_grad()
    def _validate_noisy(self, model: Decoder, rows: int) -> Tensor:
        """float64 [2]: NLL of the noisy codes of the first held-out rows, and their number, from all ranks."""
        assert self.heldout is not None
        model.eval()
        layout, packing = self.layout, self.heldout.packing(0)
        rows = min(rows, self.config.validate_rows)
        sums = torch.zeros(2, dtype=torch.float64, device=layout.ranks.device)
        for start in range(0, rows, layout.data_size):
            row = start + layout.data_index
            batch = self.heldout.build([packing.row(row) if row < rows else None])
            hidden, targets, _, weights, is_noisy = self._forward(model, self._noisy(batch, 0))
            _, nll, _ = model.lm_head.loss(hidden, targets, weights)
            sums += _noisy_sums(nll, weights, is_noisy)
        model.train()
        return layout.sum(sums)

    def _noisy(self, batch: Batch, step: int) -> NoisyBatch:
        return with_noise(batch, self.source.vocab, len(self.source), [self.config.seed, step])

    def _forward(self, model: Decoder, batch: NoisyBatch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Hidden states [1, n, hidden] of clean and noisy tokens in one row, and of each token [1, n] its target, kind
        (-1 of a noisy one), weight (1 or 0 of a noisy one) and whether it is noisy."""
        tokens, positions, targets, weights, kinds = (x.view(1, -1) for x in as_tensors(batch, self.layout))
        noise, clean = batch.noise, tokens.shape[1]
        source, codes = (torch.from_numpy(x).to(tokens.device) for x in (noise.source, noise.codes))
        copied = tokens[0, source]
        originals = copied[codes]
        copied[codes] = self._noised(originals, noise.times, noise.uniforms)
        # What a noisy token predicts follows it in its block: so the code before a code, or IMG, or an end of a row.
        predicted, counted = torch.zeros_like(copied), torch.zeros_like(copied, dtype=weights.dtype)
        predicted[codes - 1], counted[codes - 1] = originals, 1.0
        missing = -(clean + len(copied)) % self.config.parallel.tensor
        filling = torch.zeros(missing, dtype=torch.int64, device=tokens.device)
        rows = [
            torch.cat((one, *(part[None] for part in parts)), dim=1)
            for one, parts in (
                (tokens, (copied, filling)),
                (positions, (positions[0, source], filling)),
                (targets, (predicted, filling)),
                (kinds, (torch.full_like(copied, -1, dtype=kinds.dtype), filling.to(kinds.dtype) - 1)),
                (weights, (counted, filling.to(weights.dtype))),
            )
        ]
        tokens, positions, targets, kinds, weights = rows
        blocks = [*noise.blocks, *([PictureCopy(missing, 0, 0)] if missing else [])]
        visible = TwoStreams(batch.lengths, blocks, tokens.device, backend_of_copies(tokens.device, self.config.model))
        is_noisy = torch.arange(tokens.shape[1], device=tokens.device)[None] >= clean
        return model(tokens, positions, visible=visible), targets, kinds, weights, is_noisy

    def _noised(self, ids: Tensor, times: npt.NDArray[np.float32], uniforms: npt.NDArray[np.float32]) -> Tensor:
        """Noisy ids for ids of codes."""
        start = self.source.vocab.vision_start
        when, numbers = (torch.from_numpy(x).to(ids.device) for x in (times, uniforms))
        return self.path.noised(ids - start, shifted(when * LATEST, self.settings.shift), numbers) + start


def _noisy_sums(nll: Tensor, weights: Tensor, is_noisy: Tensor) -> Tensor:
    counted = (weights * is_noisy).double()
    return torch.stack(((nll.double() * counted).sum(), counted.sum()))
