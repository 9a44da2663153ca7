"""MPS (Zhang et al., CVPR 2024): CLIP ViT-H/14, and layers in which the picture attends to its prompt.

A condition, a list of words to judge by, masks the prompt: the picture attends to the text tokens that are similar to
one of the condition's. A layer is a cross-attention and a self-attention, each as in PaLM (one head of keys and values,
a SwiGLU MLP in parallel). Module names are those of the released weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelmill.errors import WeightsError

CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)
"""What overall preference is judged by, as released."""
NEAR = 0.01
"""Least similarity to the condition at which a text token is attended to, as a share of the prompt's largest."""
LAYERS, HEADS, HEAD_SIZE, MLP = 4, 16, 64, 4
ARCHITECTURE: dict[str, Any] = {
    "projection_dim": 1024,
    "text_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "hidden_act": "gelu", "projection_dim": 1024,
    },
    "vision_config": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "patch_size": 14, "image_size": 224, "hidden_act": "gelu", "projection_dim": 1024,
    },
}  # fmt: skip
"""CLIP ViT-H/14 of LAION, as transformers describes it."""


class Norm(nn.Module):
    """LayerNorm with a scale and no shift."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """[..., size] to the same."""
        return F.layer_norm(x, x.shape[-1:], self.weight)


class SwiGLU(nn.Module):
    """The second half of the last dimension, through SiLU, times the first."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., 2 n] to [..., n]."""
        values, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * values


class CrossAttention(nn.Module):
    """Multi-query attention from patch tokens to text tokens, with an MLP in parallel."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(size)
        self.to_q = nn.Linear(size, heads * HEAD_SIZE, bias=False)
        self.to_kv = nn.Linear(size, 2 * HEAD_SIZE, bias=False)
        self.to_out = nn.Linear(heads * HEAD_SIZE, size, bias=False)
        inner = MLP * size
        self.ff = nn.Sequential(nn.Linear(size, 2 * inner, bias=False), SwiGLU(), nn.Linear(inner, size, bias=False))

    def forward(self, patch_tokens: Tensor, text_tokens: Tensor, mask: Tensor) -> Tensor:
        """[b, n, size], [b, texts, size] and bool [b, texts] to what is added to the first."""
        x = self.norm(patch_tokens)
        queries = self.to_q(x).unflatten(-1, (self.heads, HEAD_SIZE)).transpose(1, 2)
        keys, values = (part.unsqueeze(1) for part in self.to_kv(text_tokens).chunk(2, dim=-1))
        attend = mask[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        seen = F.scaled_dot_product_attention(queries, _each(keys, self), _each(values, self), attend)
        added: Tensor = self.to_out(seen.transpose(1, 2).flatten(-2)) + self.ff(x)
        return added


class SelfAttention(nn.Module):
    """Multi-query attention among patch tokens with rotary positions, with an MLP in parallel."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        inner = MLP * size
        self.parts = (heads * HEAD_SIZE, HEAD_SIZE, HEAD_SIZE, 2 * inner)
        self.norm = Norm(size)
        self.fused_attn_ff_proj = nn.Linear(size, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(heads * HEAD_SIZE, size, bias=False)
        self.ff_out = nn.Sequential(SwiGLU(), nn.Linear(inner, size, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """[b, n, size] to what is added to it."""
        queries, keys, values, hidden = self.fused_attn_ff_proj(self.norm(x)).split(self.parts, dim=-1)
        queries = _rotated(queries.unflatten(-1, (self.heads, HEAD_SIZE)).transpose(1, 2))
        keys, values = _rotated(keys.unsqueeze(1)), values.unsqueeze(1)
        seen = F.scaled_dot_product_attention(queries, _each(keys, self), _each(values, self))
        added: Tensor = self.attn_out(seen.transpose(1, 2).flatten(-2)) + self.ff_out(hidden)
        return added


class Residual(nn.Module):
    """What a module adds to its input."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        """[b, n, size] to the same."""
        added: Tensor = self.fn(x, *more)
        return x + added


class CrossModel(nn.Module):
    """Layers of a cross-attention and a self-attention."""

    def __init__(self, size: int, layers: int = LAYERS, heads: int = HEADS) -> None:
        super().__init__()
        pairs = [[Residual(CrossAttention(size, heads)), Residual(SelfAttention(size, heads))] for _ in range(layers)]
        self.layers = nn.ModuleList(nn.ModuleList(pair) for pair in pairs)

    def forward(self, patch_tokens: Tensor, text_tokens: Tensor, mask: Tensor) -> Tensor:
        """[b, n, size], [b, texts, size] and bool [b, texts] to [b, n, size]."""
        for pair in self.layers:
            assert isinstance(pair, nn.ModuleList)
            patch_tokens = pair[1](pair[0](patch_tokens, text_tokens, mask))
        return patch_tokens


class MPSJudge:
    """MPS from its tensors, on a GPU if there is one; `architecture` as for transformers' CLIPConfig."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        condition: str = CONDITION,
        architecture: Mapping[str, Any] = ARCHITECTURE,
        layers: int = LAYERS,
        heads: int = HEADS,
    ) -> None:
        from reelmill.compat import torchvision

        torchvision()
        import open_clip
        from transformers import CLIPConfig, CLIPModel

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        config = CLIPConfig(**architecture)
        self.clip = CLIPModel(config)
        self.cross = CrossModel(config.projection_dim, layers, heads)
        _fill(self.clip, tensors, "model.")
        _fill(self.cross, tensors, "cross_model.")
        self.clip.eval().requires_grad_(False).to(self._device)
        self.cross.eval().requires_grad_(False).to(self._device)
        self._length = config.text_config.max_position_embeddings
        self._tokenize = open_clip.SimpleTokenizer(context_length=self._length)
        side = config.vision_config.image_size
        self._preprocess = open_clip.image_transform(side, is_train=False)
        with torch.inference_mode():
            self._condition, _ = self._text_features(condition)

    def __call__(self, images: npt.NDArray[np.uint8], prompt: str) -> npt.NDArray[np.float32]:
        """Scores float32 [N] of RGB images [N, H, W, 3] for a prompt."""
        from PIL import Image

        batch = torch.stack([self._preprocess(Image.fromarray(image)) for image in images]).to(self._device)
        with torch.inference_mode():
            text_tokens, text = self._text_features(prompt)
            near = (text_tokens @ self._condition.transpose(1, 2)).amax(dim=-1)  # to the nearest of the condition
            mask = near / near.max() > NEAR
            patch_tokens = self.clip.visual_projection(self.clip.vision_model(pixel_values=batch).last_hidden_state)
            n = len(patch_tokens)
            seen = self.cross(patch_tokens, text_tokens.expand(n, -1, -1), mask.expand(n, -1))[:, 0]
            cosine = F.cosine_similarity(seen, text, dim=-1)
            scores: npt.NDArray[np.float32] = (self.clip.logit_scale.exp() * cosine).float().cpu().numpy()
        return scores

    def _text_features(self, text: str) -> tuple[Tensor, Tensor]:
        """Projected features of each token of a text [1, length, size] and of the whole text [1, size]."""
        ids = self._tokenize([text])
        end = ids.argmax(dim=-1, keepdim=True)  # the end of text has the largest id
        # transformers fills up with the end of text, open_clip with 0; what a place holds counts here.
        ids = torch.where(torch.arange(self._length) > end, ids.gather(1, end), ids).to(self._device)
        found = self.clip.text_model(input_ids=ids)
        return self.clip.text_projection(found.last_hidden_state), self.clip.text_projection(found.pooler_output)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Give a module its tensors; WeightsError where one is missing or of another shape. Others' buffers are left."""
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    parameters = dict(module.named_parameters())
    wrong = [name for name, wanted in parameters.items() if name not in own or own[name].shape != wanted.shape]
    if wrong:
        raise WeightsError(f"the weights of MPS lack {_some([prefix + name for name in wrong])}, or in other sizes.")
    module.load_state_dict({name: own[name].float() for name in parameters}, strict=False)


def _some(names: Sequence[str]) -> str:
    """Three of them, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _each(one: Tensor, block: CrossAttention | SelfAttention) -> Tensor:
    """The one head of keys or values [b, 1, n, d] for each head of queries."""
    return one.expand(-1, block.heads, -1, -1)


def _rotated(x: Tensor) -> Tensor:
    """[b, heads, n, d] turned by its position (arXiv 2104.09864), halves of d paired."""
    n, d = x.shape[-2:]
    rates = 10_000.0 ** (-torch.arange(0, d, 2, device=x.device) / d)
    angles = torch.outer(torch.arange(n, device=x.device), rates).repeat(1, 2)
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()
