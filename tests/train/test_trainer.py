import json
import math
import re
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reelmill.errors import ConfigError, DataError, ReelmillError
from reelmill.tokenize import documents
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus
from reelmill.train.objectives.validation import unigram_entropy
from reelmill.train.optimizer import OptimizerConfig
from reelmill.train.parallel import join_ranks
from reelmill.train.run import train
from reelmill.train.trainer import Trainer


@contextmanager
def trainer_of(config, data, out):
    corpus = Corpus([data], None, config.data)
    config = replace(config, model=replace(config.model, vocab_size=corpus.vocab.size))
    with join_ranks("cpu") as ranks:
        yield Trainer(config, corpus, out, ranks, lambda _: None)


def lines_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_rate_warms_up_and_falls_along_a_cosine_to_zero():
    config = OptimizerConfig(lr=1.0, warmup_steps=10)
    assert [config.rate(step, 110) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert config.rate(60, 110) == pytest.approx(0.5)
    assert 0 < config.rate(109, 110) < 1e-3


def test_every_step_and_validation_is_a_line(run_folder, toy_config, tmp_path):
    messages = []
    train(toy_config, [run_folder], tmp_path, log_fn=messages.append)
    steps = [line for line in lines_of(tmp_path) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        assert line.keys() >= {"loss", "text", "structure", "lr", "grad_norm", "tokens_per_s", "epoch"}
        assert line["memory_gib"] > 0
        assert "mfu" not in line, "a CPU has no peak to compare with"
    assert any("vision" in line for line in steps)
    assert steps[0]["text"] == pytest.approx(math.log(531), rel=0.05), "the first weights know nothing"
    validations = [line for line in lines_of(tmp_path) if "validation" in line]
    assert [line["step"] for line in validations] == [2, 4]
    assert validations[0]["validation"].keys() == {"text", "structure", "vision"}
    assert validations[0]["vision_shuffled"] > 0
    assert any("validation after step 4" in line and "shuffled" in line for line in messages)
    assert any("documents held out" in line for line in messages)


def test_the_loss_weighs_codes_half_and_is_normalised_by_the_weight(run_folder, toy_config, tmp_path):
    whole = replace(toy_config, data=replace(toy_config.data, batch_rows=1000), steps=1)
    train(whole, [run_folder], tmp_path, log_fn=lambda _: None)
    (line,) = [line for line in lines_of(tmp_path) if "loss" in line]
    corpus = Corpus([run_folder], None, replace(toy_config.data))
    kinds = np.concatenate(
        [documents.loss_kinds(corpus.vocab, t)[1:] for t in corpus.read(np.flatnonzero(~corpus.heldout))]
    )
    text, structure, vision = np.bincount(kinds) * [1.0, 1.0, 0.5]
    expected = (line["text"] * text + line["structure"] * structure + line["vision"] * vision) / (
        text + structure + vision
    )
    assert line["loss"] == pytest.approx(expected, rel=0.01)  # parts of one long video repeat EOI and EOS


def test_the_unigram_entropy_is_that_of_the_counts(tmp_path, shard_writer):
    vocab = Vocabulary("bytes", 64)
    image = documents.image_document(vocab, np.array([[0, 0], [1, 2]]), "aabb")
    shard_writer(tmp_path, [image, documents.text_document(vocab, "ab" * 50)])
    corpus = Corpus([tmp_path], None, DataConfig(heldout=0.0))
    entropy = unigram_entropy(corpus, np.arange(2))
    assert entropy["text"] == pytest.approx(math.log(2))
    assert entropy["vision"] == pytest.approx(1.5 * math.log(2))


def test_without_held_out_items_it_trains_and_says_so(run_folder, toy_config, tmp_path):
    messages = []
    config = replace(toy_config, data=replace(toy_config.data, heldout=0.0))
    train(config, [run_folder], tmp_path, log_fn=messages.append)
    assert any("no held-out items (data.heldout is 0)" in line for line in messages)


def test_one_text_trains_and_what_is_missing_is_said_rightly(tmp_path, shard_writer, toy_config):
    vocab = Vocabulary("bytes", 64)
    shard_writer(tmp_path / "one", [documents.text_document(vocab, "ab" * 50)])
    messages = []
    config = replace(toy_config, steps=1, data=replace(toy_config.data, heldout=0.1))
    train(config, [tmp_path / "one"], tmp_path / "run", log_fn=messages.append)
    assert any("no held-out items (too few items for data.heldout 0.1" in line for line in messages)
    everything = replace(config, data=replace(config.data, heldout=0.999999))
    with pytest.raises(DataError, match=r"none of 1 documents is left to train on: .* leaves out 0, .* holds out 1;"):
        train(everything, [tmp_path / "one"], tmp_path / "second")
    pictures = replace(config, data=replace(config.data, kinds=("image", "video")))
    with pytest.raises(DataError, match=r"data.kinds \(image, video\) leaves out 1, .* holds out 0;"):
        train(pictures, [tmp_path / "one"], tmp_path / "third")


def test_a_loss_that_is_not_finite_names_the_document(run_folder, toy_config, tmp_path):
    """The embedding of an id that one document alone has is damaged; nothing is updated."""
    config = replace(toy_config, data=replace(toy_config.data, batch_rows=1000, micro_rows=4))
    with trainer_of(config, run_folder, tmp_path) as trainer:
        documents = trainer.source.read(trainer.objective.training)
        ids, owners = np.unique(np.concatenate([np.unique(tokens) for tokens in documents]), return_counts=True)
        alone = int(ids[owners == 1][-1])
        (owner,) = (n for n, tokens in zip(trainer.objective.training, documents, strict=True) if alone in tokens)
        weights = trainer.model.embed_tokens.weight.detach()
        weights[alone] = math.inf
        before = weights.clone()
        with pytest.raises(ReelmillError) as caught:
            trainer.step(0)
        assert torch.equal(trainer.model.embed_tokens.weight, before)
    named = re.findall(r"rank 0, micro-batch \d+: document (\S+) in (\S+)[;.]", str(caught.value))
    assert {(doc_id, folder) for doc_id, folder in named} == {tuple(trainer.source.name(int(owner)).split(" in "))}
    assert str(run_folder) in named[0][1]
    assert "step 1: the loss is not finite" in str(caught.value)


def test_a_gradient_that_is_not_finite_names_the_parameters(run_folder, toy_config, tmp_path):
    """A head so large that the loss is finite, and its gradient's square is not."""
    with trainer_of(toy_config, run_folder, tmp_path) as trainer:
        trainer.model.lm_head.weight.detach().mul_(1e26)
        before = trainer.model.norm.weight.clone()
        with pytest.raises(ReelmillError, match=r"step 1: the loss is \d.*norm is inf because of norm\.weight; layers"):
            trainer.step(0)
        assert torch.equal(trainer.model.norm.weight, before)


def test_a_recipe_for_another_vocabulary_is_refused(run_folder, toy_config, tmp_path):
    config = replace(toy_config, model=replace(toy_config.model, vocab_size=184_622))
    with pytest.raises(
        ConfigError, match=r"vocab_size is 184,622, but the data's vocabulary \(bytes, 64 codes\) has 531"
    ):
        train(config, [run_folder], tmp_path)


def test_a_run_of_no_steps_is_refused(run_folder, toy_config, tmp_path):
    with pytest.raises(ConfigError, match="steps is 0"):
        train(replace(toy_config, steps=0), [run_folder], tmp_path, log_fn=lambda _: None)


def test_the_rate_may_end_above_zero_and_fall_in_a_line():
    config = OptimizerConfig(lr=1.0, final_lr=0.1, schedule="linear", warmup_steps=10)
    assert config.rate(60, 110) == pytest.approx(0.55)
    assert replace(config, schedule="cosine").rate(60, 110) == pytest.approx(0.55)
    assert config.rate(110, 110) == pytest.approx(0.1)


def test_kinds_of_documents_may_be_left_out(run_folder, toy_config, tmp_path):
    messages = []
    without = replace(toy_config, data=replace(toy_config.data, kinds=("text", "image")))
    train(without, [run_folder], tmp_path / "without", log_fn=messages.append)
    corpus = Corpus([run_folder], None, without.data)
    kept = corpus.of_kinds(("text", "image")) & ~corpus.heldout
    assert 0 < kept.sum() < (~corpus.heldout).sum()
    assert any(f"{kept.sum()} documents in" in line for line in messages)
    only_text = replace(without, data=replace(without.data, kinds=("text",)))
    train(only_text, [run_folder], tmp_path / "text", log_fn=messages.append)
    assert not any("vision" in line for line in lines_of(tmp_path / "text"))


def test_a_batch_in_which_nothing_counts_teaches_nothing(run_folder, toy_config, tmp_path):
    words = replace(toy_config.data, kinds=("text",), text_weight=0.0, structure_weight=0.0)
    config = replace(toy_config, data=words, optimizer=replace(toy_config.optimizer, weight_decay=0.0))
    with trainer_of(config, run_folder, tmp_path) as trainer:
        before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
        line = trainer.step(0)
        assert line["loss"] == line["grad_norm"] == 0 and line["text"] > 0
        assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())


class NoWaiting(TorchDispatchMode):
    """Raises where the host would wait for a GPU: a number that it asks for, or a size that depends on numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indexes = args[1] if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default) else ()
        by_mask = any(index is not None and index.dtype == torch.bool for index in indexes)
        if by_mask or func in WAITING:
            raise AssertionError(f"{func} makes the host wait")
        return func(*args, **(kwargs or {}))


WAITING = {
    torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default, torch.ops.aten._unique2.default,
}  # fmt: skip


def test_no_micro_batch_makes_the_host_wait_for_the_device(run_folder, toy_config, tmp_path):
    with pytest.raises(AssertionError, match="makes the host wait"), NoWaiting():
        torch.arange(3)[torch.arange(3) > 1]
    config = replace(toy_config, z_loss=1e-3, data=replace(toy_config.data, kinds=("image", "video")))
    with trainer_of(config, run_folder, tmp_path) as trainer:
        batches = trainer.objective.micro_batches(0)
        assert any(-1 in batch.documents for batch in batches), "padding is among them"
        for batch in batches:
            denominators = trainer.objective.denominators(batch)
            with NoWaiting():
                found = trainer.objective.loss(trainer.model, batch, denominators)
                found.total.backward()
            assert found.total.item() > 0
