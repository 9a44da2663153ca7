"""Claim: of the ways to run RAFT's networks on a CPU, bfloat16 where the processor has it is the one that pays.

    python bench/raft_runtimes.py [--height H] [--width W] [--rounds N] [--json FILE]

The feature encoder, the context encoder and one update step of `raft_large` with the authors' weights, alone, on one
frame of H x W and one thread; the baseline is torch in float32. A way whose package is not installed is left out
(onnxruntime needs `onnx` for the export). The ways take turns; CPU-milliseconds are the lowest of N rounds. An error is
the largest difference from the baseline's output over its largest entry.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import io
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from reelmill import weights
from reelmill.compat import one_thread
from reelmill.curation.scorers import raft

Run = Callable[[], torch.Tensor]


class First(torch.nn.Module):
    """A module, the first of its outputs."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        found = self.module(*inputs)
        return found[0] if isinstance(found, tuple) else found


def parts(height: int, width: int) -> dict[str, tuple[torch.nn.Module, list[torch.Tensor]]]:
    """The three networks, each with inputs of a frame's shape."""
    model = raft.load(weights.path("raft-things"))
    torch.manual_seed(0)
    frame = torch.rand(1, 3, height, width) * 2 - 1
    encoded = model.context_encoder(frame).detach()
    hidden, context = torch.tanh(encoded[:, :128]), torch.relu(encoded[:, 128:])
    alike = torch.randn(1, model.corr_block.out_channels, *encoded.shape[2:])
    step = [hidden, context, alike, torch.randn(1, 2, *encoded.shape[2:])]
    return {
        "feature encoder": (First(model.feature_encoder).eval(), [frame]),
        "context encoder": (First(model.context_encoder).eval(), [frame]),
        "update step": (First(model.update_block).eval(), step),
    }


def ways(module: torch.nn.Module, inputs: list[torch.Tensor]) -> dict[str, Run]:
    """How the module can be run here, the baseline first."""
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    in_last = [each.to(memory_format=torch.channels_last) for each in inputs]
    low, in_low = copy.deepcopy(module).to(torch.bfloat16), [each.to(torch.bfloat16) for each in inputs]
    traced = torch.jit.freeze(torch.jit.trace(module, inputs))
    with_graph = torch.jit.freeze(torch.jit.trace(module, inputs))
    found: dict[str, Run] = {
        "torch, float32": lambda: module(*inputs),
        "torch, channels last": lambda: last(*in_last),
        "torch.jit, frozen": lambda: traced(*inputs),
        "torch.jit, frozen, oneDNN graph": lambda: fused(with_graph, inputs),
        "torch, bfloat16": lambda: low(*in_low).float(),
    }
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found["onnxruntime, float32"] = onnx_run(module, inputs)
    if importlib.util.find_spec("openvino"):
        for precision in ("f32", "bf16"):
            found[f"OpenVINO, {precision}"] = openvino_run(module, inputs, precision)
    return found


def fused(module: torch.nn.Module, inputs: list[torch.Tensor]) -> torch.Tensor:
    """A run with oneDNN's graph fusion on."""
    torch.jit.enable_onednn_fusion(True)
    try:
        return module(*inputs)
    finally:
        torch.jit.enable_onednn_fusion(False)


def onnx_run(module: torch.nn.Module, inputs: list[torch.Tensor]) -> Run:
    import onnxruntime

    names, file = [f"input{place}" for place in range(len(inputs))], io.BytesIO()
    torch.onnx.export(module, tuple(inputs), file, dynamo=False, input_names=names, opset_version=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    given = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
    return lambda: torch.from_numpy(session.run(None, given)[0])


def openvino_run(module: torch.nn.Module, inputs: list[torch.Tensor], precision: str) -> Run:
    import openvino

    model = openvino.convert_model(module, example_input=tuple(inputs))
    for place, each in zip(model.inputs, inputs, strict=True):
        place.get_node().set_partial_shape(openvino.PartialShape(list(each.shape)))
    model.validate_nodes_and_infer_types()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    given = [each.numpy() for each in inputs]
    return lambda: torch.from_numpy(next(iter(request.infer(given).values())))


def measured(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """CPU-milliseconds of each way, their ratio to the baseline, the error."""
    outputs = {name: run() for name, run in runs.items()}
    for run in runs.values():
        run()  # torch.jit optimizes at the second run
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - began) * 1000)
    baseline, *_ = runs
    expected = outputs[baseline]
    errors = {name: (found - expected).abs().max() / expected.abs().max() for name, found in outputs.items()}
    return {
        name: [round(best[name], 1), round(best[name] / best[baseline], 2), round(float(errors[name]), 5)]
        for name in runs
    }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--height", type=int, default=256)
    arguments.add_argument("--width", type=int, default=456)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    one_thread()
    warnings.simplefilter("ignore")  # tracing warns of shapes that are fixed: they are meant to be
    found = {}
    for part, (module, inputs) in parts(options.height, options.width).items():
        with torch.no_grad():
            found[part] = measured(ways(module, inputs), options.rounds)
        for way, values in found[part].items():
            print(f"{part:16} {way:32} {values[0]:7.1f} CPU-ms  {values[1]:5.2f}  error {values[2]:.5f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
