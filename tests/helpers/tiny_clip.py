"""CLIP models of random weights, known to open_clip by name."""

import json

import torch

from reelmill.compat import torchvision


def tiny_clip(folder, name, architecture):
    """The model; from now on open_clip knows `architecture` as `name`, by a file in `folder`."""
    torchvision()
    import open_clip

    (folder / f"{name}.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    return open_clip.create_model(name).eval()
