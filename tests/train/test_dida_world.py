"""What DiDA draws of a world whose law is known: with the exact posterior in place of a model, and after training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from column_world import CODES, ColumnWorld

from reelmill.eval.generation import image_request, run
from reelmill.eval.generation.denoising import Denoising
from reelmill.tokenize import documents, vision
from reelmill.tokenize.documents import Grammar
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vision.architectures import build
from reelmill.tokenize.vision.movq import MoVQConfig
from reelmill.tokenize.vision.tokenizer import save
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.categorical import choose
from reelmill.train.objectives.dida.objective import DidaConfig
from reelmill.train.objectives.dida.path import LATEST, fitted_path
from reelmill.train.run import train
from reelmill.train.two_streams import PictureCopy, TwoStreams

ANY_TIME = (torch.arange(16) + 0.5) / 16 * LATEST
"""The times of training, which are as likely as each other."""
VOCAB = Vocabulary("bytes", CODES)


def drawn_exactly(world, path, steps, is_told, count=300):
    """Pictures drawn with the exact posterior: at the time of the pass, or at any time if that is not told."""
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, CODES, (count, 2, world.width), generator=random)
    for number in range(steps):
        time = number / steps
        law = world.posterior(path, codes, torch.tensor([time]) if is_told else ANY_TIME)
        heading, moving = torch.rand(2, codes.numel(), generator=random)
        wanted = choose(law.reshape(-1, CODES), heading)
        if number == steps - 1:
            return wanted.view_as(codes)
        before, after = (torch.full((codes.numel(),), (number + more) / steps) for more in (0, 1))
        codes = path.step(codes.flatten(), wanted, before, after, moving).view_as(codes)
    raise AssertionError


def test_a_model_that_is_told_no_time_needs_a_picture_that_shows_it():
    """Four codes do not say how noisy they are; sixteen do. 300 draws of the very law are 0.09 and 0.03 away."""
    path = fitted_path(torch.randn(CODES, 4, generator=torch.Generator().manual_seed(0)))
    small, large = ColumnWorld(2), ColumnWorld(8)
    assert small.away(drawn_exactly(small, path, 16, is_told=True)) < 0.15
    assert small.away(drawn_exactly(small, path, 16, is_told=False)) > 0.25
    assert large.away(drawn_exactly(large, path, 16, is_told=True)) < 0.1
    assert large.away(drawn_exactly(large, path, 16, is_told=False)) < 0.1


@pytest.mark.slow
@pytest.mark.timeout(900)  # it computes for about two CPU-minutes
def test_a_trained_model_draws_pairs_of_codes_as_they_are_in_the_world(toy_config, tmp_path):
    world, file = ColumnWorld(8), tmp_path / "small.safetensors"
    torch.manual_seed(0)
    shape = {"channels": 8, "channel_multipliers": (1,), "res_blocks": 1, "attention_levels": (), "norm_groups": 4}
    save(build(MoVQConfig(**shape, codes=CODES, patch=8)), "small", file)
    tokenizer = vision.load(file)
    pictures = world.draw(4_000, seed=0)
    write_world(tmp_path / "data", pictures.numpy(), tokenizer.fingerprint)
    sizes = {"hidden": 48, "layers": 3, "heads": 4, "kv_heads": 4, "mlp": 96}
    steps = 900
    config = replace(
        toy_config,
        model=replace(toy_config.model, **sizes, dropout=0.0, attention_dropout=0.0),
        objective="dida",
        settings={"dida": DidaConfig(tokenizer=str(file))},
        data=replace(toy_config.data, context=1024, batch_rows=1, heldout=0.0),
        optimizer=replace(toy_config.optimizer, lr=5e-3, warmup_steps=20),
        checkpoint=replace(toy_config.checkpoint, every=steps),
        steps=steps,
        validate_every=steps,
    )
    last = train(config, [tmp_path / "data"], tmp_path / "run", log_fn=lambda _: None)
    model, path = checkpoint.load_decoder(last)[0], fitted_path(tokenizer.codebook())
    for time in (0.2, 0.4, 0.6, 0.8):
        clean = pictures[:100].flatten()
        random = torch.Generator().manual_seed(1)
        noisy = path.noised(clean, torch.full(clean.shape, time), torch.rand(len(clean), generator=random))
        noisy = noisy.view(100, 2, 8)
        exact = world.posterior(path, noisy, ANY_TIME).view(100, 16, CODES)
        found = torch.stack([predicted(model, codes) for codes in noisy.numpy()])
        away, unknowing = ((law - exact).abs().sum(2).mean() / 2 for law in (found, torch.full_like(exact, 1 / CODES)))
        assert away < min(0.25, 0.7 * unknowing)
    away = {}
    for count in (1, 32):
        request = image_request(Grammar(VOCAB, one_block=True), "", 2, 8)
        asked, codes = [replace(request, stream=number) for number in range(500)], {}
        for event in run(model, VOCAB, asked, rows=128, pictures=Denoising(path, count)):
            if VOCAB.is_vision(np.array(event.token)):
                codes.setdefault(event.request, []).append(event.token - VOCAB.vision_start)
        away[count] = world.away(torch.tensor([codes[number] for number in range(500)]).view(-1, 2, 8))
    # 500 draws of the law itself are 0.02 away; codes that are independent of each other, 0.78.
    assert away[32] < 0.16 < 0.6 < away[1]


def write_world(folder, pictures, fingerprint):
    """The pictures int64 [n, 2, w] as documents of a run folder."""
    rows = [
        document_row(
            VOCAB,
            documents.image_document(VOCAB, picture, ""),
            sample_id=f"s{number}",
            item_id=f"i{number}",
            fingerprint=fingerprint,
        )
        for number, picture in enumerate(pictures)
    ]
    place = folder / "tokens" / fingerprint[:12]
    place.mkdir(parents=True)
    write_shard(place / "unit-000000.parquet", rows, VOCAB, fingerprint)


@torch.inference_mode()
def predicted(model, codes):
    """What a model takes each of noisy codes int [h, w] for, [h * w, CODES], in one pass as in training."""
    ids = np.asarray(documents.image_document(VOCAB, codes, ""))
    begin, places = int(np.flatnonzero(ids == VOCAB.img)[0]), np.flatnonzero(VOCAB.is_vision(ids))
    stop = int(places[-1]) + 1
    tokens = torch.from_numpy(ids[:stop]).long()
    visible = TwoStreams([begin], [PictureCopy(stop - begin, 0, begin)], torch.device("cpu"))
    hidden = model(tokens[None], torch.arange(stop)[None], visible=visible)[0, places - 1]
    return torch.softmax((hidden @ model.lm_head.weight[VOCAB.vision_start : VOCAB.vision_stop].t()).double(), 1)
