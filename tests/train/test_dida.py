"""DiDA's training: what clean and noisy tokens see, that nothing leaks, and that both losses are learned.

What a trained model draws of a world whose law is known: `test_dida_world.py`.
"""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_decoder import random_decoder
from rounding import assert_near, rounding

from reelmill.errors import ConfigError
from reelmill.tokenize import documents, vision
from reelmill.tokenize.documents import Visual
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.data.batches import Contents, assemble
from reelmill.train.objectives.dida.noise import with_noise
from reelmill.train.run import train
from reelmill.train.two_streams import PictureCopy, TwoStreams

VOCAB = Vocabulary("bytes", 16)
CPU = torch.device("cpu")
quiet = {"log_fn": lambda _: None}


def pages():
    """A page of two pictures and text, a video of two latent frames, a text; packed into rows of 64."""
    first, second = np.arange(6).reshape(2, 3), np.arange(4).reshape(2, 2) + 8
    page = documents.interleaved_document(VOCAB, ["ab", Visual(first), "c", Visual(second), "d"])
    clip = documents.video_document(VOCAB, np.arange(8).reshape(2, 2, 2), "waves", 8.0, documents.seconds_of(2, 8.0))
    contents = [[Contents(0, page)], [Contents(1, clip), Contents(2, documents.text_document(VOCAB, "xyz"))]]
    return with_noise(assemble(VOCAB, contents, 64, np.ones(3, np.float32)), VOCAB, 3, [0])


def test_blocks_copy_pictures_from_img_to_the_last_code():
    batch = pages()
    noise, tokens = batch.noise, batch.tokens.reshape(-1)
    copied = tokens[noise.source]
    assert [block.size for block in noise.blocks] == [1 + 7, 1 + 5, 1 + 7 + 5]
    begins = np.cumsum([0, *(block.size for block in noise.blocks)])[:-1]
    assert (copied[begins] == VOCAB.img).all()
    assert VOCAB.is_vision(copied[noise.codes]).all()
    assert len(noise.codes) == 6 + 4 + 8
    for begin, block in zip(begins.tolist(), noise.blocks, strict=True):
        # The clean tokens before the picture: from the document's first up to the one before IMG.
        assert tokens[block.first] == VOCAB.bos
        assert noise.source[begin] == block.stop
    times = noise.times.tolist()
    assert len(set(times[:6])) == len(set(times[6:10])) == 1  # one time a picture, another for the next
    assert len(set(times[10:14])) == len(set(times[14:])) == 1
    assert len(set(times)) == 4  # and one for each latent frame of a video
    np.testing.assert_array_equal(pages().noise.uniforms, noise.uniforms)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_each_way_of_attention_is_that_of_the_dense_mask(heads):
    batch = pages()
    streams = TwoStreams(batch.lengths, batch.noise.blocks, CPU)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, streams.tokens, n, 16, generator=generator, dtype=torch.float64, requires_grad=True)
        for n in (heads[0], heads[1], heads[1])
    )
    found = streams.attend(q, k, v)
    wide = [x.repeat_interleave(heads[0] // x.shape[2], 2).transpose(1, 2) for x in (q, k, v)]
    scores = (wide[0] @ wide[1].transpose(2, 3) / 4).masked_fill(~streams.mask, -torch.inf)
    expected = (scores.softmax(-1) @ wide[2]).transpose(1, 2)
    bound = rounding(torch.float64, 32, 5 * streams.tokens)
    assert_near(found, expected, bound)
    wanted = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    for got, want in zip(*(torch.autograd.grad((x * wanted).sum(), (q, k, v)) for x in (found, expected)), strict=True):
        assert_near(got, want, bound)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it is slow when it is not compiled
        flex = replace(streams, backend="flex").attend(*(x.detach() for x in (q, k, v)))
    assert_near(flex, expected, bound)


def test_flex_blocks_hold_what_the_mask_allows():
    streams = TwoStreams([300, 500], [PictureCopy(260, 0, 40), PictureCopy(130, 300, 700)], CPU)
    made = streams.block_mask.to_dense()[0, 0].bool()
    blocks = torch.nn.functional.pad(streams.mask, (0, -streams.tokens % 128) * 2).unflatten(0, (-1, 128))
    needed = blocks.unflatten(2, (-1, 128)).any(3).any(1)
    assert (made | ~needed).all()
    assert made.sum() < 0.8 * made.numel()


@pytest.fixture(scope="module")
def model():
    return random_decoder(VOCAB)


def hidden_states(model, batch, clean=None, noisy=None):
    """Of the clean tokens and of the noisy ones, with some of either replaced."""
    tokens, positions = (torch.from_numpy(x.reshape(-1)).long() for x in (batch.tokens, batch.positions))
    copied = tokens[batch.noise.source]
    copied[batch.noise.codes] = VOCAB.vision_start + torch.arange(len(batch.noise.codes)) % 16
    for ids, changes in ((tokens, clean), (copied, noisy)):
        for place, token in (changes or {}).items():
            ids[place] = token
    everything = torch.cat((tokens, copied))[None], torch.cat((positions, positions[batch.noise.source]))[None]
    streams = TwoStreams(batch.lengths, batch.noise.blocks, CPU)
    found = model(*everything, visible=streams)[0]
    return found[: len(tokens)], found[len(tokens) :].split([block.size for block in batch.noise.blocks])


def test_a_noisy_picture_never_sees_its_clean_codes_and_the_clean_tokens_see_no_noise(model):
    batch = pages()
    clean, noisy = hidden_states(model, batch)
    begins = np.flatnonzero(batch.tokens.reshape(-1) == VOCAB.img)
    for picture, begin in enumerate(begins.tolist()):
        other = VOCAB.vision_start + 15
        changed, after = hidden_states(model, batch, clean={begin + 2: other})
        assert torch.equal(after[picture], noisy[picture])
        assert not torch.equal(changed, clean)
        later = [number for number in range(len(begins)) if number > picture]
        seen = {number for number in later if not torch.equal(after[number], noisy[number])}
        assert seen == ({1} if picture == 0 else set())  # the page's second picture follows its first
        unchanged, noised = hidden_states(model, batch, noisy={sum(map(len, noisy[:picture])) + 3: other})
        assert torch.equal(unchanged, clean)
        assert not torch.equal(noised[picture][0], noisy[picture][0])  # both directions: IMG sees what follows it
    tokens, positions = (torch.from_numpy(x).long() for x in (batch.tokens, batch.positions))
    alone = model(tokens, positions, batch.lengths).flatten(0, 1)
    torch.testing.assert_close(clean, alone, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Run folders of pictures with four codes of the small tokenizer, and of texts."""
    tokenizer = vision.load("reelmill-tok-xs")
    vocab = Vocabulary("bytes", tokenizer.codes)
    folders = []
    for kind in ("pictures", "texts"):
        out = tmp_path_factory.mktemp(kind)
        rows = []
        for number in range(24):
            codes = np.roll(np.array([[5, 900], [2500, 4000]]), number % 2)
            text = "left" if number % 2 else "right"
            ids = (
                documents.image_document(vocab, codes, text)
                if kind == "pictures"
                else documents.text_document(vocab, 3 * text)
            )
            rows.append(
                document_row(
                    vocab, ids, sample_id=f"s{number}", item_id=f"i{number}", fingerprint=tokenizer.fingerprint
                )
            )
        folder = out / "tokens" / tokenizer.fingerprint[:12]
        folder.mkdir(parents=True)
        write_shard(folder / "unit-000000.parquet", rows, vocab, tokenizer.fingerprint)
        folders.append(out)
    return folders


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def plain(toy_config, **changes):
    model = replace(toy_config.model, hidden=32, dropout=0.0, attention_dropout=0.0)
    return replace(toy_config, model=model, **changes)


def test_pictures_are_denoised_and_text_goes_on(drawn, toy_config, tmp_path):
    config = replace(plain(toy_config, steps=60, validate_every=60), objective="dida")
    config = replace(config, data=replace(config.data, vision_weight=0.0))
    messages = []
    train(config, drawn[:1], tmp_path / "run", log_fn=messages.append)
    steps = [line for line in lines(tmp_path / "run") if "loss" in line]
    assert steps[0]["denoising"] == pytest.approx(np.log(4096 + 467), rel=0.1)
    assert steps[-1]["denoising"] < 2.5
    assert steps[-1]["text"] < 0.5 * steps[0]["text"]
    (validation,) = [line["validation"] for line in lines(tmp_path / "run") if "validation" in line]
    assert validation["denoising"] < 3
    assert any("denoising" in message for message in messages)


def test_micro_batches_change_nothing(drawn, toy_config, tmp_path):
    losses = []
    for micro_rows in (1, 4):
        config = replace(plain(toy_config, steps=3), objective="dida")
        config = replace(config, data=replace(config.data, micro_rows=micro_rows))
        train(config, drawn, tmp_path / str(micro_rows), **quiet)
        losses.append([line["loss"] for line in lines(tmp_path / str(micro_rows)) if "loss" in line])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_without_pictures_it_is_the_next_token(drawn, toy_config, tmp_path):
    losses = []
    for objective in ("dida", "next_token"):
        train(replace(plain(toy_config), objective=objective), drawn[1:], tmp_path / objective, **quiet)
        losses.append([line["loss"] for line in lines(tmp_path / objective) if "loss" in line])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_settings_that_mean_nothing_are_refused(drawn, toy_config, tmp_path):
    for key, value in (("shift", 0.0), ("next_token_weight", -1.0)):
        config = replace(plain(toy_config), objective="dida", settings={"dida": {key: value}})
        with pytest.raises(ConfigError, match=rf"dida\.{key} is"):
            train(config, drawn[:1], tmp_path, **quiet)
