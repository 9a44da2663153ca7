"""Memory of a step of preference training, here and in TRL: same pairs, same weights, float32.

    python bench/dpo.py [--vocabulary 184622] [--hidden 128] [--layers 2] [--pairs 4] [--longest 2000] [--json]

Baseline: TRL's `DPOTrainer` (loss "sigmoid" with "sft", sdpa attention), whose collator pads, on a `LlamaForCausalLM`.
Each runs in a process of its own with one thread: the loss of all pairs in one forward pass, and backward. Prints
CPU-seconds, the loss, the peak resident set above the trained model's weights and gradients, and the ratio to TRL's. A
second model as reference is part of it; `stored` takes log-probabilities that were computed before instead (TRL:
`precompute_ref_log_probs`). Pairs are of pictures of random sizes, the longest document about `--longest` tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beside import Row, print_json

from reelmill.compat import torchvision
from reelmill.tokenize import documents
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import PairIndex, pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import hub
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.objectives.preference.data import PairCorpus
from reelmill.train.objectives.preference.objective import Preference
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder

KINDS = {
    "trl": "TRL, second model (baseline)",
    "trl-stored": "TRL, stored reference",
    "ours-model": "reelmill, second model",
    "ours": "reelmill, stored reference",
}


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Pairs and two models on disk."""
    vocab = Vocabulary("bytes", args.vocabulary - Vocabulary("bytes", 1).size + 1)
    rng = np.random.default_rng(0)
    side = int(np.sqrt(args.longest)) - 1
    rows = []
    for number in range(args.pairs):
        sizes = rng.integers(side // 2, side + 1, (2, 2))
        both = [
            documents.image_document(vocab, rng.integers(0, vocab.codes, size), f"picture {number}") for size in sizes
        ]
        rows.append(pair_row(f"picture {number}", len(f"picture {number}") + 2, *both))
    write_pairs(folder / "pairs/a.parquet", rows, Footer("ab" * 32, vocab, "ab" * 32))
    torch.manual_seed(0)
    model = Decoder(
        ModelConfig(
            vocab_size=vocab.size, hidden=args.hidden, layers=args.layers, heads=4, kv_heads=2, mlp=3 * args.hidden,
            dropout=0.0, attention_dropout=0.0,
        )
    )  # fmt: skip
    with torch.no_grad():
        for name in ("reference", "policy"):
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
            hub.export_model(model, vocab, folder / name, layout="llama", dtype=torch.float32)


def megabytes(field: str) -> float:
    """A field of /proc/self/status: VmRSS is what is held, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def ours(folder: Path, reference: str) -> None:
    sizes = hub.read_config(folder / "policy")
    index = PairIndex(folder / "pairs")
    context = int(np.sum([index.columns[name].to_numpy() for name in ("n_chosen", "n_rejected")])) - 2 * len(index)
    config = TrainConfig(
        model=sizes,
        data=DataConfig(context=context, batch_rows=1, heldout=0.0, vision_weight=1.0),
        objective="preference",
        settings={"preference": {"reference": reference}},
        init=str(folder / "reference"),
        precision="float32",
        device="cpu",
    )
    with join_ranks("cpu") as ranks:
        layout = Layout.of(ParallelConfig(), sizes, context, ranks)
        model = sharded_decoder(sizes, layout, "float32", seed=0)
        hub.fill(model, folder / "policy")
        objective = Preference(config, PairCorpus([folder / "pairs"], "", config.data), layout)
        if reference == "stored":
            objective.prepare(folder, lambda _: None)
        held = megabytes("VmRSS")
        if reference == "model":
            objective.prepare(folder, lambda _: None)
        (batch,) = objective.micro_batches(0)
        begin = measured()
        part = objective.loss(model, batch, objective.denominators(batch))
        part.total.backward()
        report(begin, held, model.parameters(), objective.metrics(part.sums)["loss"])


def theirs(folder: Path, *, stored: bool) -> None:
    torchvision()
    import datasets
    import tokenizers
    import transformers
    from trl import DPOConfig, DPOTrainer

    index = PairIndex(folder / "pairs")
    pairs = [index.read(number) for number in range(len(index))]
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="a", eos_token="a")
    policy, reference = (
        transformers.LlamaForCausalLM.from_pretrained(folder / name, dtype=torch.float32)
        for name in ("policy", "reference")
    )
    config = DPOConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, max_length=None, report_to=[], beta=0.1,
        loss_type=["sigmoid", "sft"], loss_weights=[1.0, 1.0], gradient_checkpointing=False,
    )  # fmt: skip
    data = datasets.Dataset.from_list([{"prompt": "a", "chosen": "a a", "rejected": "a"}])
    trainer = DPOTrainer(policy, ref_model=reference, args=config, train_dataset=data, processing_class=tokenizer)
    rows: list[dict[str, Any]] = [
        {
            "prompt_ids": pair.chosen[: pair.n_prompt].tolist(),
            "chosen_ids": pair.chosen[pair.n_prompt :].tolist(),
            "rejected_ids": pair.rejected[pair.n_prompt :].tolist(),
        }
        for pair in pairs
    ]
    batch = trainer.data_collator(rows)
    size = sum(parameter.numel() for parameter in reference.parameters()) * 4 / 1e6
    if stored:
        chosen, rejected = trainer.compute_ref_log_probs(reference, batch)
        batch |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        trainer.precompute_ref_logps = True
    # Both models exist in either case; the memory that stored log-probabilities save is subtracted below.
    held = megabytes("VmRSS") - (0 if stored else size)
    begin = measured()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    report(begin, held, policy.parameters(), loss.item())


def measured() -> float:
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    return time.process_time()


def report(begin: float, held: float, parameters: Any, loss: float) -> None:
    gradients = sum(parameter.grad.numel() for parameter in parameters) * 4 / 1e6
    seconds = time.process_time() - begin
    print(json.dumps({"seconds": seconds, "above": megabytes("VmHWM") - held - gradients, "loss": loss}))


def child(kind: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", kind, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    costs: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=184_622)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--longest", type=int, default=2_000)
    parser.add_argument("--json", action="store_true", help="rows beside peers as the last line")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        kind, folder = args.child[0], Path(args.child[1])
        if kind.startswith("trl"):
            theirs(folder, stored=kind == "trl-stored")
        else:
            ours(folder, "model" if kind == "ours-model" else "stored")
        return
    with tempfile.TemporaryDirectory() as place:
        prepare(Path(place), args)
        index = PairIndex(Path(place) / "pairs")
        lengths = [int(n) for name in ("n_chosen", "n_rejected") for n in index.columns[name].to_pylist()]
        print(
            f"V {args.vocabulary:,}, hidden {args.hidden}, {args.layers} layers; {args.pairs} pairs, "
            f"{sum(lengths):,} tokens ({2 * args.pairs * max(lengths):,} padded)"
        )
        print(f"{'':32} {'CPU-s':>7} {'loss':>10} {'MB above weights, gradients':>28} {'ratio':>6}")
        base, found = None, {}
        for kind, name in KINDS.items():
            costs = found[kind] = child(kind, Path(place))
            base = base or costs["above"]
            above = f"{costs['above']:28,.0f} {costs['above'] / base:6.2f}"
            print(f"{name:32} {costs['seconds']:7.1f} {costs['loss']:10.6f} {above}", flush=True)
    if args.json:
        ours_now, theirs_now = found["ours"], found["trl-stored"]
        peaks = ours_now["above"], theirs_now["above"]
        work = "a step of preference training, stored reference"
        print_json([Row(work, "TRL's DPOTrainer", "CPU-s", ours_now["seconds"], theirs_now["seconds"], *peaks)])


if __name__ == "__main__":
    main()
