"""MPS's weights, read without running anything: its release is a pickled module.

`MPS_overall_checkpoint.pth` holds no table of tensors but a whole `torch.nn.Module`. To unpickle it as its authors do
runs what the file says. Here every class and function that the pickle names becomes an empty box that keeps what it is
given; PyTorch's own reader of tensors (`weights_only=True`) does the rest, and the boxes are searched for tensors.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelmill.errors import WeightsError


class Box:
    """In the place of any class or function of a pickle: takes everything, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Box:
        """Whatever the arguments, an empty box."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """Keep what an object's attributes would be."""
        self.held = state if isinstance(state, dict) else {}


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, of a table of tensors that torch saved, or of a pickled module, by name.

    Raises WeightsError for a file that is none of these.
    """
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise WeightsError(f"{file} is damaged or not a safetensors file: {error}") from None
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        with torch.serialization.safe_globals([(Box, name) for name in names]):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise WeightsError(f"{file} cannot be read as torch's: {str(error).splitlines()[0]}") from None
    tensors = dict(_tensors(found, "")) if isinstance(found, Box) else found
    if not (isinstance(tensors, dict) and tensors and all(isinstance(t, Tensor) for t in tensors.values())):
        raise WeightsError(f"{file} holds neither a module nor a table of tensors.")
    return tensors


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module in a box, as `state_dict` names them."""
    held = module.held if isinstance(module, Box) else {}
    for own in ("_parameters", "_buffers"):
        for name, tensor in (held.get(own) or {}).items():
            if isinstance(tensor, Tensor):
                yield prefix + name, tensor.detach()
    for name, child in (held.get("_modules") or {}).items():
        yield from _tensors(child, f"{prefix}{name}.")
