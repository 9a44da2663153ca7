"""The nearest code found by cells is the one found by looking at all."""

import pytest
import torch

from reelmill.tokenize.vision.neighbors import Cells
from reelmill.tokenize.vision.quantize import NearestCode, nearest


def distances(vectors, book, codes):
    return (vectors.double() - book[codes].double()).norm(dim=1)


@pytest.mark.parametrize("kind", ["even", "clustered", "far", "repeated"])
def test_cells_find_what_looking_at_all_finds(kind):
    generator = torch.Generator().manual_seed(0)
    book = torch.randn(6000, 12, generator=generator)
    vectors = torch.randn(700, 12, generator=generator)
    if kind == "clustered":  # some dimensions matter more, as in a trained codebook
        scale = 2.0 ** -torch.arange(12.0)
        book, vectors = book * scale, vectors * scale
    if kind == "far":  # a codebook at its start, small around 0: all codes are nearly as far
        book = book / 30_000
    if kind == "repeated":
        book = book[torch.randint(0, 400, (6000,), generator=generator)]
    found, expected = Cells(book).nearest(vectors), nearest(vectors, book)
    # Where two codes are equally near up to rounding, either may come out.
    same = found == expected
    assert same.float().mean() > 0.995
    gaps = distances(vectors, book, found) - distances(vectors, book, expected)
    assert gaps.abs().max() < 1e-5
    if kind == "repeated":
        assert all((book[:code] != book[code]).any(1).all() for code in found[:50].tolist())


def test_of_codes_that_are_equally_near_the_first_is_taken():
    """In small whole numbers all products are exact, and most queries have several nearest codes, in several cells."""
    generator = torch.Generator().manual_seed(0)
    book = 2.0 * torch.randint(-2, 3, (3000, 5), generator=generator)
    vectors = torch.randint(-5, 6, (500, 5), generator=generator).float()
    apart = (vectors[:, None] - book).square().sum(2)
    first = (apart == apart.amin(1, keepdim=True)).float().argmax(1)
    ties = (book[first][:, None] != book).any(2) & (apart == apart.amin(1, keepdim=True))
    assert ties.any(1).float().mean() > 0.5
    assert torch.equal(Cells(book).nearest(vectors), first)


def test_a_codebook_that_changes_is_searched_as_it_is():
    torch.manual_seed(0)
    quantizer = NearestCode(4096, 6)
    torch.nn.init.normal_(quantizer.embedding.weight)
    vectors = torch.randn(1, 6, 1, 8, 8)
    with torch.no_grad():
        expected = quantizer.encode(vectors)
        quantizer.freeze()
        assert torch.equal(quantizer.encode(vectors), expected)
        quantizer.embedding.weight[int(expected[0, 0, 0, 0])] = 100.0
        changed = quantizer.encode(vectors)
    assert changed[0, 0, 0, 0] != expected[0, 0, 0, 0]
    assert torch.equal(changed.flatten(), nearest(vectors.movedim(1, -1).reshape(-1, 6), quantizer.embedding.weight))
