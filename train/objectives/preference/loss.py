"""Losses of preference pairs: functions of a few numbers a pair, the log-probabilities of its two documents.

dpo    -log sigmoid(beta x difference of log-ratios)             Rafailov et al., arXiv 2305.18290, eq. 7
ipo    (difference of mean log-ratios - 1 / (2 beta))^2          Azar et al., arXiv 2310.12036, eq. 17, a token
simpo  -log sigmoid(beta x difference of means - gamma)          Meng et al., arXiv 2405.14734, eq. 6; no reference

With label smoothing a sigmoid loss is that of a pair whose order is wrong with that probability (conservative DPO).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from reelmill.errors import ConfigError

Loss = Literal["dpo", "ipo", "simpo"]


@dataclass(kw_only=True)
class PreferenceConfig:
    """Settings of preference training."""

    pairs: str = ""
    """NAME of pairs/NAME in the run folders; not needed where there is one, or where --data names the pairs' folder."""
    loss: Loss = "dpo"
    """The loss function of a pair's two log-probabilities."""
    beta: float = 0.1
    """How closely the model stays to the reference: a smaller beta lets it move farther."""
    label_smoothing: float = 0.0
    """Share of the pairs whose order is assumed to be wrong (dpo, simpo)."""
    gamma: float = 0.5
    """Target margin between the means of chosen and rejected, times beta (simpo)."""
    ntp_weight: float = 1.0
    """Weight of the next-token loss on the chosen documents' answers, a mean over their tokens (Emu3, section 2.5)."""
    reference: Literal["stored", "model"] = "stored"
    """Log-probabilities of the reference, which is `init`: computed once and stored in the run's folder, or by a frozen
    second model in each step."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss uses a reference model, the one that training starts from."""
        return self.loss != "simpo"

    def check(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.beta <= 0 or self.ntp_weight < 0 or not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"preference.beta is {self.beta}, ntp_weight {self.ntp_weight}, label_smoothing "
                f"{self.label_smoothing}; beta must be above 0, ntp_weight 0 or more, label_smoothing 0 to under 0.5."
            )
        if self.label_smoothing and self.loss == "ipo":
            raise ConfigError("preference.label_smoothing is for dpo and simpo; with ipo set it to 0.")


def scores(config: PreferenceConfig, policy: Tensor, reference: Tensor, counts: Tensor) -> Tensor:
    """What a loss compares of the documents, float64 [pairs, 2] as all arguments: chosen, rejected.

    policy, reference: log-probabilities, summed over the tokens by their weights; counts: the sums of these weights.
    """
    if config.loss == "dpo":
        return policy - reference
    return (policy - reference if config.loss == "ipo" else policy) / counts


def pair_losses(config: PreferenceConfig, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each pair and its margin, beta times the difference of its scores; float64 [pairs] each."""
    difference = scores[:, 0] - scores[:, 1]
    margin = config.beta * difference
    if config.loss == "ipo":
        return (difference - 1 / (2 * config.beta)).square(), margin
    logit = margin - config.gamma if config.loss == "simpo" else margin
    wrong = config.label_smoothing
    return -(1 - wrong) * logsigmoid(logit) - wrong * logsigmoid(-logit), margin
