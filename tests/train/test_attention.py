"""The ways of attention give the same, and what a dense mask gives."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_near, rounding
from torch.nn import functional

from reelmill.errors import ConfigError
from reelmill.train.attention import BLOCK, Documents, attend, choose_backend

CPU = torch.device("cpu")
lengths_lists = st.lists(st.integers(1, 200), min_size=1, max_size=8)


def inputs(rows, columns, heads=4, kv_heads=2, size=16, seed=0, device=CPU, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, columns, n, size) for n in (heads, kv_heads, kv_heads)]
    made = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    return [x.requires_grad_() for x in made]


def dense(q, k, v, documents):
    """Attention under the whole [Q, K] mask, by the definition."""
    q, k, v = (x.flatten(0, 1).transpose(0, 1) for x in (q, k, v))
    k, v = (x.repeat_interleave(len(q) // len(x), 0) for x in (k, v))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    weights = scores.masked_fill(~documents.mask, -torch.inf).softmax(-1)
    return (weights @ v).transpose(0, 1)


def gradients(out, tensors):
    torch.manual_seed(1)
    return torch.autograd.grad((out * torch.randn(out.shape).to(out)).sum(), tensors)


@settings(deadline=None, max_examples=15)
@given(lengths_lists, st.sampled_from([(4, 4), (4, 2), (3, 1)]))
def test_a_causal_attention_a_document_is_what_a_dense_mask_gives_with_gradients(lengths, heads):
    tensors = inputs(1, sum(lengths), *heads, dtype=torch.float64)
    documents = Documents.packed(lengths, CPU)
    expected, found = dense(*tensors, documents), attend(*tensors, documents).flatten(0, 1)
    # Scores over the head's size, softmax and values over the keys; once more backward, and over the queries.
    bound = rounding(torch.float64, 2 * tensors[0].shape[-1], 5 * sum(lengths))
    assert_near(found, expected, bound)
    assert_near(*(torch.cat([x.flatten() for x in gradients(out, tensors)]) for out in (found, expected)), bound)


@settings(deadline=None, max_examples=15)
@given(lengths_lists, st.sampled_from([(4, 4), (4, 2)]))
def test_flex_attention_gives_the_same(lengths, heads):
    tensors = [x.detach() for x in inputs(1, sum(lengths), *heads)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow when it is not compiled
        found = attend(*tensors, Documents.packed(lengths, CPU, "flex"))
    expected = attend(*tensors, Documents.packed(lengths, CPU))
    assert_near(found, expected, rounding(torch.float32, tensors[0].shape[-1], 2 * sum(lengths)))


@settings(deadline=None, max_examples=50)
@given(lengths_lists)
def test_the_block_mask_lists_the_blocks_in_which_anything_is_allowed(lengths):
    documents = Documents.packed(lengths, CPU)
    blocks = documents.block_mask
    count = -(-sum(lengths) // BLOCK)
    padded = functional.pad(documents.mask, [0, count * BLOCK - sum(lengths)] * 2).view(count, BLOCK, count, BLOCK)
    assert torch.equal(blocks.to_dense()[0, 0].bool(), padded.any(3).any(1))
    inner = sum(lengths) // BLOCK  # what a rim block counts as is open
    full = torch.zeros(count, count, dtype=torch.bool)
    for row in range(count):
        full[row, blocks.full_kv_indices[0, 0, row, : blocks.full_kv_num_blocks[0, 0, row]].long()] = True
    assert torch.equal(full[:inner, :inner], padded.all(3).all(1)[:inner, :inner])


@settings(deadline=None, max_examples=50)
@given(lengths_lists)
def test_pairs_are_counted(lengths):
    documents = Documents.packed(lengths, CPU)
    assert documents.pairs == int(documents.mask.sum()) == sum(n * (n + 1) // 2 for n in lengths)


def test_packed_documents_are_a_small_part_of_the_dense_causal_pairs():
    """131,072 tokens of documents of 4,500: 1/29 of the pairs, a third of the FLOPs of Emu3's step."""
    documents = Documents.packed([4_500] * 29 + [572], CPU)
    assert documents.keys == 131_072
    row = Documents.packed([131_072], CPU)
    assert row.pairs / documents.pairs == pytest.approx(29, rel=0.02)
    per_token = 6 * 7_735_000_000  # parameters that are multiplied with
    per_pair = 12 * 32 * 32 * 128  # layers, heads, head size
    step = [per_token * 131_072 + per_pair * d.pairs for d in (row, documents)]
    assert step[0] / step[1] == pytest.approx(3.0, rel=0.02)


def test_blocks_of_131072_tokens_are_listed_without_the_pairs():
    blocks = Documents.packed([4_500] * 29 + [572], CPU).block_mask
    assert blocks.seq_lengths == (131_072, 131_072)
    assert blocks.sparsity() > 97


def test_the_way_is_chosen_by_device_dtype_and_dropout():
    cuda = torch.device("cuda")
    assert choose_backend(CPU, torch.float32, 0.0) == "documents"
    assert choose_backend(cuda, torch.bfloat16, 0.0) == "varlen"
    assert choose_backend(cuda, torch.float32, 0.0) == "flex"
    assert choose_backend(cuda, torch.bfloat16, 0.1) == "varlen"
    assert choose_backend(cuda, torch.float32, 0.1) == "documents"


def test_dropout_under_a_way_that_has_none_is_refused():
    with pytest.raises(ConfigError, match=r"attention flex has no dropout and model.attention_dropout is 0\.1"):
        attend(*inputs(1, 8), Documents.packed([8], CPU, "flex"), dropout=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["varlen", "flex"])
@pytest.mark.parametrize("heads", [(8, 8), (8, 2)])
@pytest.mark.parametrize("lengths", [[1024], [5, 700, 1, 318], [100] * 10 + [24]])
def test_on_cuda_the_fast_ways_give_the_same_with_gradients(backend, heads, lengths):
    cuda = torch.device("cuda")
    tensors = inputs(1, 1024, *heads, size=64, device=cuda, dtype=torch.bfloat16)
    expected = attend(*(x.float() for x in tensors), Documents.packed(lengths, cuda))
    found = attend(*tensors, Documents.packed(lengths, cuda, backend)).float()
    assert torch.allclose(found, expected, atol=2e-2)
    for one, other in zip(gradients(expected, tensors), gradients(found, tensors), strict=True):
        assert torch.allclose(one.float(), other.float(), atol=0.1, rtol=0.05)
