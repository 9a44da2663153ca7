import pytest
import torch
from rounding import assert_near, decoder_sums, rounding

from reelmill.errors import ConfigError
from reelmill.train.model import Decoder, ModelConfig, count_parameters

TOY = ModelConfig(
    vocab_size=97, hidden=32, layers=3, heads=4, kv_heads=2, mlp=48, dropout=0.0, attention_dropout=0.0, init_std=0.2
)


def toy(**changes):
    torch.manual_seed(0)
    model = Decoder(ModelConfig(**{**vars(TOY), **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 1.0, 0.2)
    return model


def positions_of(lengths):
    return torch.cat([torch.arange(n) for n in lengths])


def test_emu3_has_8492011520_parameters():
    assert count_parameters(ModelConfig(vocab_size=184_622)) == 8_492_011_520


def test_emu35_has_34103460864_parameters():
    config = ModelConfig(
        vocab_size=282_926, hidden=5120, layers=64, heads=64, kv_heads=8, head_dim=128, mlp=25600, qk_norm=True
    )
    assert count_parameters(config) == 34_103_460_864


@pytest.mark.parametrize("qk_norm", [False, True])
def test_documents_of_a_packed_row_do_not_see_each_other(qk_norm):
    model = toy(qk_norm=qk_norm)
    documents = [torch.randint(0, 97, (n,)) for n in (5, 9, 2, 8, 7, 1)]
    lengths = [len(d) for d in documents]
    packed = model(torch.cat(documents).view(2, 16), positions_of(lengths).view(2, 16), lengths).view(32, -1)
    alone = torch.cat([model(d[None], torch.arange(len(d))[None])[0] for d in documents])
    assert_near(packed, alone, rounding(torch.float32, decoder_sums(model.config, 97, 16)))


def test_a_token_does_not_see_later_ones():
    model = toy()
    tokens = torch.randint(0, 97, (1, 12))
    changed = tokens.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 97
    positions = torch.arange(12)[None]
    one, other = model(tokens, positions), model(changed, positions)
    assert torch.equal(one[:, :7], other[:, :7])
    assert not torch.allclose(one[:, 7], other[:, 7])


def test_dropout_acts_in_training_only():
    model = toy(dropout=0.3, attention_dropout=0.3)
    tokens, positions = torch.randint(0, 97, (1, 8)), torch.arange(8)[None]
    assert not torch.equal(model(tokens, positions), model(tokens, positions))
    model.eval()
    assert torch.equal(model(tokens, positions), model(tokens, positions))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "model.vocab_size is 0"),
        ({"hidden": 30}, "no multiple of model.heads"),
        ({"kv_heads": 3}, "no multiple of model.kv_heads"),
        ({"head_dim": 7}, "even"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Decoder(ModelConfig(**{**vars(TOY), **changes}))
