"""FlashAttention's variable-length kernels on the CPU, by the definition: so that what CUDA runs can be run here.

Torch has them for CUDA alone. While `flash_on_cpu` is open the operators have a CPU kernel: causal attention, document
by document, and its gradients written out; attention to the pages of a cache, forward only. Dropout draws from the seed
that forward hands to backward.
"""

import contextlib

import torch


def by_document(q, k, starts, key_starts, dropout, seed):
    """(queries, keys, scale, softmax [heads, queries, keys], kept [the same], log-sums [heads, queries]) of each."""
    spans = zip(*(x.tolist() for x in (starts[:-1], starts[1:], key_starts[:-1], key_starts[1:])), strict=True)
    for begin, end, first, stop in spans:
        query, key = (x.transpose(0, 1).double() for x in (q[begin:end], k[first:stop]))
        scores = query @ key.transpose(1, 2) / q.shape[-1] ** 0.5
        allowed = torch.ones(scores.shape[1:], dtype=torch.bool).tril(scores.shape[2] - scores.shape[1])
        scores = scores.masked_fill(~allowed, -torch.inf)
        generator = torch.Generator().manual_seed(int(seed[0]) + begin)
        drawn = torch.rand(scores.shape, generator=generator, dtype=torch.float64)
        kept = (drawn >= dropout) / (1 - dropout)
        yield slice(begin, end), slice(first, stop), scores.softmax(-1), kept, scores.logsumexp(-1)


def repeated(x, heads):
    """Each key head for all query heads that it serves."""
    return x.repeat_interleave(heads // x.shape[1], 1)


def paged(q, k, v, starts, used, table):
    """Attention without dropout to the first `used` tokens of pages [pages, tokens, heads, size] by `table`."""
    assert k.shape[1] % 256 == 0  # FlashAttention 2's pages
    assert used.dtype == table.dtype == torch.int32
    assert len(used) == len(table) == len(starts) - 1
    for begin, end, count, pages in zip(
        starts[:-1].tolist(), starts[1:].tolist(), used.tolist(), table.tolist(), strict=True
    ):
        keys, values = (repeated(torch.cat([*x[pages]])[:count], q.shape[1]) for x in (k, v))
        yield slice(begin, end), q[begin:end], keys, values


def forward_paged(q, k, v, starts, longest, window, used, table):
    out = torch.empty_like(q)
    assert longest == int(starts.diff().max())
    for queries, query, key, value in paged(q, k, v, starts, used, table):
        scores = torch.einsum("qhd,khd->hqk", query.double(), key.double()) / q.shape[-1] ** 0.5
        if window == (-1, 0):
            seen = torch.ones(scores.shape[1:], dtype=torch.bool).tril(scores.shape[2] - scores.shape[1])
            scores = scores.masked_fill(~seen, -torch.inf)
        # A query that sees nothing (of a row that is not in use) gets zeros.
        out[queries] = torch.einsum("hqk,khd->qhd", scores.softmax(-1).nan_to_num(), value.double()).to(q.dtype)
    return out, torch.empty(q.shape[1], len(q))


def forward(q, k, v, starts, key_starts, longest, longest_key, dropout, is_causal, *_, **options):
    if options.get("block_table") is not None:
        window = options["window_size_left"], options["window_size_right"]
        assert not dropout and is_causal == (window == (-1, 0))
        mixed = forward_paged(q, k, v, starts, longest, window, options["seqused_k"], options["block_table"])
        zero = torch.zeros((), dtype=torch.uint64)
        return *mixed, zero, zero, torch.empty(0, dtype=q.dtype)
    assert is_causal or (options["window_size_left"], options["window_size_right"]) == (-1, 0)
    assert (longest, longest_key) == (int(starts.diff().max()), int(key_starts.diff().max()))
    assert starts.dtype == key_starts.dtype == torch.int32
    seed = torch.randint(2**31, (2,)).to(torch.uint64)
    k, v = (repeated(x, q.shape[1]) for x in (k, v))
    out, sums = torch.empty_like(q), torch.empty(q.shape[1], len(q))
    for queries, keys, softmax, kept, log_sums in by_document(q, k, starts, key_starts, dropout, seed):
        out[queries] = ((softmax * kept) @ v[keys].transpose(0, 1).double()).transpose(0, 1).to(q.dtype)
        sums[:, queries] = log_sums.float()
    return out, sums, seed, torch.empty((), dtype=torch.uint64), torch.empty(0, dtype=q.dtype)


def backward(grad, q, k, v, out, sums, starts, key_starts, longest, longest_key, dropout, is_causal, seed, *_, **__):
    heads, served = q.shape[1], q.shape[1] // k.shape[1]
    wide = [repeated(x, heads) for x in (k, v)]
    grad_q, grad_k, grad_v = torch.zeros_like(q), *(torch.zeros_like(x) for x in wide)
    for queries, keys, softmax, kept, _ in by_document(q, wide[0], starts, key_starts, dropout, seed):
        g, query, key, value = (
            x.transpose(0, 1).double() for x in (grad[queries], q[queries], wide[0][keys], wide[1][keys])
        )
        grad_weights = g @ value.transpose(1, 2) * kept
        grad_scores = softmax * (grad_weights - (grad_weights * softmax).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        grad_q[queries] = (grad_scores @ key).transpose(0, 1).to(q.dtype)
        grad_k[keys] += (grad_scores.transpose(1, 2) @ query).transpose(0, 1).to(q.dtype)
        grad_v[keys] += ((softmax * kept).transpose(1, 2) @ g).transpose(0, 1).to(q.dtype)
    return grad_q, *(x.unflatten(1, (-1, served)).sum(2) for x in (grad_k, grad_v))


@contextlib.contextmanager
def flash_on_cpu():
    """Give the operators these kernels; yields a list that gets the share of dropout of each forward call."""
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments[7])
        return forward(*arguments, **options)

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", counted, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    try:
        yield calls
    finally:
        library._destroy()
