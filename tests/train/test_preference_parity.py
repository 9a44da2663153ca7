"""Loss and gradients of preference pairs equal TRL's on the same pairs, with the same policy and reference."""

from dataclasses import replace

import datasets
import numpy as np
import pytest
import tokenizers
import torch
from rounding import assert_near, decoder_sums, rounding
from torch.distributed.tensor import DTensor

from reelmill.compat import torchvision
from reelmill.tokenize import documents
from reelmill.tokenize.shards import Footer
from reelmill.tokenize.shards.pairs import pair_row, write_pairs
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import hub
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.objectives.preference.data import PairCorpus
from reelmill.train.objectives.preference.loss import PreferenceConfig
from reelmill.train.objectives.preference.objective import Preference
from reelmill.train.parallel import Layout, ParallelConfig, join_ranks, sharded_decoder

torchvision()  # transformers imports it, which fails beside a CPU build of torch unless this came first

import transformers  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402
from trl.experimental.cpo import CPOConfig, CPOTrainer  # noqa: E402

VOCAB = Vocabulary("bytes", 64)
MODEL = ModelConfig(
    vocab_size=VOCAB.size, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=16, mlp=48, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip
SMOOTHING = 0.1
WORDS = datasets.Dataset.from_list([{"prompt": "a", "chosen": "a a", "rejected": "a"}])
"""Their trainers want a dataset of words; losses are asked for on batches of pairs."""


def make_pairs(count=6):
    """Prompts of several lengths, pictures of several sizes."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        prompt = "a picture" * (number + 1)
        sizes = rng.integers(2, 6, (2, 2))
        chosen, rejected = (documents.image_document(VOCAB, rng.integers(0, 64, size), prompt) for size in sizes)
        rows.append(pair_row(prompt, 1 + len(prompt) + 1, chosen, rejected))
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pairs, and two models that differ a little, in Hugging Face's layout."""
    folder = tmp_path_factory.mktemp("parity")
    write_pairs(folder / "pairs/a.parquet", make_pairs(), Footer("ab" * 32, VOCAB, "ab" * 32))
    torch.manual_seed(0)
    model = Decoder(MODEL)
    with torch.no_grad():
        for name, size in (("reference", 0.2), ("policy", 0.05)):
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * size)
            hub.export_model(model, VOCAB, folder / name, layout="llama", dtype=torch.float32)
    return folder


def ours(place, out, preference):
    """(loss, gradients by name) of all pairs in one step of two micro-batches."""
    config = TrainConfig(
        model=MODEL,
        data=DataConfig(context=220, batch_rows=100, micro_rows=2, heldout=0.0, vision_weight=1.0),
        objective="preference",
        settings={"preference": preference},
        init=str(place / "reference"),
        precision="float32",
        device="cpu",
    )
    with join_ranks("cpu") as ranks:
        layout = Layout.of(ParallelConfig(), MODEL, config.data.context, ranks)
        model = sharded_decoder(MODEL, layout, "float32", seed=0)
        hub.fill(model, place / "policy")
        objective = Preference(config, PairCorpus([place / "pairs"], "", config.data), layout)
        objective.prepare(out, lambda _: None)
        batches = objective.micro_batches(0)
        assert len(batches) > 1
        weights = np.sum([objective.denominators(batch) for batch in batches], axis=0).tolist()
        sums = []
        for batch in batches:
            part = objective.loss(model, batch, weights)
            part.total.backward()
            sums.append(part.sums)
        line = objective.metrics(torch.stack(sums).sum(0))
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        return line, {name: g.full_tensor() if isinstance(g, DTensor) else g for name, g in gradients.items()}


def theirs(place, loss):
    """The same of their trainers: `loss(policy, tokenizer)` gives a scalar."""
    policy = transformers.LlamaForCausalLM.from_pretrained(place / "policy", dtype=torch.float32)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<pad>": VOCAB.pad}, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<pad>")
    total = loss(policy, tokenizer)
    total.backward()
    return total.item(), {name.removeprefix("model."): p.grad for name, p in policy.named_parameters()}


def dpo(place, tmp_path, **settings):
    """Their DPO loss with the reference model."""
    rows = [
        {
            "prompt_ids": row["chosen"][: row["n_prompt"]].tolist(),
            **{f"{name}_ids": row[name][row["n_prompt"] :].tolist() for name in ("chosen", "rejected")},
        }
        for row in make_pairs()
    ]

    def loss(policy, tokenizer):
        reference = transformers.LlamaForCausalLM.from_pretrained(place / "reference", dtype=torch.float32)
        config = DPOConfig(
            output_dir=str(tmp_path), use_cpu=True, max_length=None, report_to=[], bf16=False, **settings
        )
        trainer = DPOTrainer(
            policy, ref_model=reference, args=config, train_dataset=WORDS, processing_class=tokenizer,
        )  # fmt: skip
        return trainer.compute_loss(trainer.model, trainer.data_collator(rows))

    return theirs(place, loss)


def simpo(place, tmp_path, **settings):
    """Their SimPO, in the trainer for CPO."""

    def loss(policy, tokenizer):
        config = CPOConfig(
            output_dir=str(tmp_path), use_cpu=True, loss_type="simpo", report_to=[], bf16=False, max_length=512,
            remove_unused_columns=False, **settings,
        )  # fmt: skip
        trainer = CPOTrainer(policy, args=config, train_dataset=WORDS, processing_class=tokenizer)
        batch = {}
        for name in ("chosen", "rejected"):
            lists = [torch.from_numpy(row[name].astype(np.int64)) for row in make_pairs()]
            labels = [ids.clone() for ids in lists]
            for ids, row in zip(labels, make_pairs(), strict=True):
                ids[: row["n_prompt"]] = -100
            ones = [torch.ones_like(ids) for ids in lists]
            for key, values, pad in (("input_ids", lists, 0), ("labels", labels, -100), ("attention_mask", ones, 0)):
                batch[f"{name}_{key}"] = torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=pad)
        return trainer.get_batch_loss_metrics(trainer.model, batch)[0]

    return theirs(place, loss)


BOUND = rounding(torch.float32, 3 * decoder_sums(MODEL, VOCAB.size, 64), 64)
VARIANTS = {
    "dpo": (PreferenceConfig(beta=0.1, ntp_weight=0.0), dpo, {"beta": 0.1}),
    "dpo and next token": (
        PreferenceConfig(beta=0.3, ntp_weight=0.7),
        dpo,
        {"beta": 0.3, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7]},
    ),
    "ipo": (PreferenceConfig(loss="ipo", beta=0.5, ntp_weight=0.0), dpo, {"beta": 0.5, "loss_type": ["ipo"]}),
    # Theirs has no smoothed loss, but one that is a sum of the same two terms: robust = ((1 - e) A - e B) / (1 - 2 e).
    "dpo with smoothed labels": (
        PreferenceConfig(beta=0.1, ntp_weight=0.0, label_smoothing=SMOOTHING),
        dpo,
        {
            "beta": 0.1, "label_smoothing": SMOOTHING, "loss_type": ["sigmoid", "robust"],
            "loss_weights": [2 * (1 - SMOOTHING), -(1 - 2 * SMOOTHING)],
        },
    ),
    "simpo": (
        PreferenceConfig(loss="simpo", beta=2.0, gamma=0.8, ntp_weight=0.5, label_smoothing=SMOOTHING),
        simpo,
        {"beta": 2.0, "simpo_gamma": 0.8, "cpo_alpha": 0.5, "label_smoothing": SMOOTHING},
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradients_equal_trl(place, tmp_path, variant):
    preference, trl, settings = VARIANTS[variant]
    loss, expected = trl(place, tmp_path, **settings)
    line, found = ours(place, tmp_path, preference)
    assert line["loss"] == pytest.approx(loss, rel=BOUND)
    assert expected.keys() == found.keys()
    flat = [torch.cat([gradients[name].flatten() for name in sorted(expected)]) for gradients in (found, expected)]
    assert_near(*flat, BOUND)


def test_a_frozen_reference_gives_the_same(place, tmp_path):
    stored, one = ours(place, tmp_path, PreferenceConfig())
    frozen, other = ours(place, tmp_path, replace(PreferenceConfig(), reference="model"))
    assert frozen == pytest.approx(stored, rel=BOUND, abs=BOUND)
    assert_near(*(torch.cat([gradients[name].flatten() for name in sorted(one)]) for gradients in (one, other)), BOUND)
