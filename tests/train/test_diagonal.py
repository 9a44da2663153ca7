"""Drawing by diagonals: where a picture's neighbors stand, what the copies see, and what the second head learns."""

import itertools
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from diagonal_case import states_behind
from random_decoder import random_decoder
from rounding import assert_near, rounding, training_bound

from reelmill.errors import ConfigError
from reelmill.tokenize import documents
from reelmill.tokenize.documents import Visual
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint
from reelmill.train.data.batches import Contents, assemble
from reelmill.train.diagonals import diagonals_of
from reelmill.train.hub import export_model, read_model
from reelmill.train.objectives.diagonal import DiagonalConfig, copies_by_diagonals
from reelmill.train.run import train
from reelmill.train.two_streams import PictureCopy, TwoStreams

VOCAB = Vocabulary("bytes", 64)
CPU = torch.device("cpu")
quiet = {"log_fn": lambda _: None}


@pytest.mark.parametrize("vocab", [VOCAB, Vocabulary("bytes", 64, EMU3_5)], ids=["emu3", "emu3.5"])
@pytest.mark.parametrize(("h", "w"), [(3, 4), (4, 2), (1, 5), (5, 1), (1, 1)])
def test_the_neighbors_of_a_code_are_on_the_diagonal_before_its_own(vocab, h, w):
    tokens = documents.image_document(vocab, np.arange(h * w).reshape(h, w), "a")
    ids = tokens[np.flatnonzero(tokens == vocab.img)[0] : np.flatnonzero(vocab.is_vision(tokens))[-1] + 1]
    found = diagonals_of(vocab, ids)
    assert len(set(found.groups)) == h + w  # IMG, then a group for each diagonal
    for number, (r, c) in enumerate(itertools.product(range(h), range(w))):
        code = found.codes[number]
        assert ids[code] == vocab.vision_start + number
        assert found.groups[code] == r + c + 1
        assert found.left[number] == code - 1
        assert found.groups[code - 1] == r + c
        above = found.above[number]
        assert (above == -1) == (r == 0)
        if r:
            assert ids[above] == vocab.vision_start + number - w
            assert found.groups[above] == r + c


def test_a_latent_frame_begins_when_the_one_before_is_complete():
    tokens = documents.video_document(VOCAB, np.arange(12).reshape(2, 2, 3), "a", 8.0, documents.seconds_of(2, 8.0))
    ids = tokens[np.flatnonzero(tokens == VOCAB.img)[0] :]
    found = diagonals_of(VOCAB, ids)
    groups = found.groups[found.codes].reshape(2, 6)
    np.testing.assert_array_equal(groups, [[1, 2, 3, 2, 3, 4], [5, 6, 7, 6, 7, 8]])
    assert ids[found.left[6]] == VOCAB.eof
    assert found.groups[found.left[6]] == 4
    np.testing.assert_array_equal(found.above.reshape(4, 3)[[0, 2]], -1)


def pages():
    """A page of two pictures and text, a video of two latent frames, a text; packed into rows of 64."""
    page = ["ab", Visual(np.arange(6).reshape(2, 3)), "c", Visual(np.arange(4).reshape(2, 2) + 8), "d"]
    clip = documents.video_document(VOCAB, np.arange(8).reshape(2, 2, 2), "waves", 8.0, documents.seconds_of(2, 8.0))
    contents = [
        [Contents(0, documents.interleaved_document(VOCAB, page))],
        [Contents(1, clip), Contents(2, documents.text_document(VOCAB, "xyz"))],
    ]
    return assemble(VOCAB, contents, 64, np.ones(3, np.float32))


def test_copies_stand_in_the_order_of_diagonals():
    batch = pages()
    found, tokens = copies_by_diagonals(batch, VOCAB, 3), batch.tokens.reshape(-1)
    copied = tokens[found.source]
    assert [copy.groups for copy in found.copies] == [(1, 2, 2, 2, 1), (1, 2, 2, 1), (1, 2, 3, 2, 2, 2, 1)]
    assert len(found.codes) == 6 + 4 + 8
    begins = np.cumsum([0, *(copy.size for copy in found.copies)])[:-1]
    assert (copied[begins] == VOCAB.img).all()
    first = VOCAB.vision_start + np.array([[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found.codes[:6], first.ravel())
    np.testing.assert_array_equal(copied[found.left[:6]], [VOCAB.img, *first[0, :2], VOCAB.eol, *first[1, :2]])
    np.testing.assert_array_equal(found.above[:3], -1)
    np.testing.assert_array_equal(copied[found.above[3:6]], first[0])
    assert [len(copies_by_diagonals(batch, VOCAB, n).copies) for n in (0, 1, 2)] == [0, 2, 3]  # others are synthetic


def test_each_way_of_attention_is_that_of_the_dense_mask():
    streams = TwoStreams([9, 7], [PictureCopy(6, 0, 5, (1, 2, 3)), PictureCopy(4, 9, 12)], CPU)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 26, n, 8, generator=generator, dtype=torch.float64) for n in (4, 2, 2))
    assert streams.mask[16:22].int().tolist() == [
        [1] * 5 + [0] * 11 + [1] * end + [0] * (10 - end) for end in (1, 3, 3, 6, 6, 6)
    ]
    wide = [x.repeat_interleave(4 // x.shape[2], 2).transpose(1, 2) for x in (q, k, v)]
    scores = (wide[0] @ wide[1].transpose(2, 3) / 8**0.5).masked_fill(~streams.mask, -torch.inf)
    expected, bound = (scores.softmax(-1) @ wide[2]).transpose(1, 2), rounding(torch.float64, 16, 5 * 26)
    assert_near(streams.attend(q, k, v), expected, bound)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it is slow when it is not compiled
        assert_near(replace(streams, backend="flex").attend(q, k, v), expected, bound)


def test_a_code_is_predicted_from_the_diagonals_before_it_alone_and_documents_see_no_copy():
    model = random_decoder(VOCAB, vertical_layers=1)
    batch = pages()
    found = copies_by_diagonals(batch, VOCAB, 3)
    tokens, positions = (torch.from_numpy(x.reshape(-1)).long() for x in (batch.tokens, batch.positions))
    clean = len(tokens)
    left, above = (torch.from_numpy(x) for x in (found.left, found.above))
    visible = TwoStreams(batch.lengths, found.copies, CPU)
    group = torch.cat([torch.arange(len(c.groups)).repeat_interleave(torch.tensor(c.groups)) for c in found.copies])

    def states(changes):
        ids = torch.cat((tokens, tokens[found.source]))
        for place in changes:
            ids[place] = VOCAB.vision_start + 40
        everything = ids[None], torch.cat((positions, positions[found.source]))[None]
        given = clean + left, torch.where(above < 0, -1, clean + above)
        return model.diagonal(*everything, *given, visible=visible)

    before = states([])
    alone = model(torch.from_numpy(batch.tokens).long(), torch.from_numpy(batch.positions).long(), batch.lengths)
    assert_near(before.hidden[0, :clean], alone.flatten(0, 1), rounding(torch.float64, 10_000))
    picture = range(6)  # the codes of the first picture
    for code in picture:
        own = int(found.source[found.left[code]]) + 1
        after = states([own])  # its place in the document
        assert torch.equal(after.mixed[0, :6], before.mixed[0, :6])
        copied = next(n for n in range(found.copies[0].size) if found.source[n] == own)
        after = states([clean + copied])
        assert torch.equal(after.hidden[0, :clean], before.hidden[0, :clean])
        changed = {n for n in picture if not torch.equal(after.mixed[0, n], before.mixed[0, n])}
        assert changed == {n for n in picture if group[found.left[n]] >= group[copied]}


def adapting(config, init, **settings):
    """The recipe of an adaptation of a run `init`, without dropout."""
    model = replace(config.model, dropout=0.0, attention_dropout=0.0, vertical_layers=1)
    return replace(
        config, model=model, objective="diagonal", settings={"diagonal": DiagonalConfig(**settings)}, init=str(init)
    )


def plain(config):
    return replace(config, model=replace(config.model, dropout=0.0, attention_dropout=0.0))


@pytest.fixture(scope="module")
def base(run_folder, tmp_path_factory):
    """A place for a run of the next token, which the first test to need it makes."""
    return tmp_path_factory.mktemp("base") / "run"


def base_of(base, config, data):
    if not base.exists():
        train(plain(config), [data], base, **quiet)
    return base


def weights(place):
    return checkpoint.load_decoder(checkpoint.find(place))[0].state_dict()


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_at_first_only_the_second_head_learns_and_begins_as_the_last_layers(base, toy_config, run_folder, tmp_path):
    init = base_of(base, toy_config, run_folder)
    still = replace(toy_config, optimizer=replace(toy_config.optimizer, lr=1e-30, weight_decay=0.0), steps=1)
    train(adapting(still, init), [run_folder], tmp_path / "still", **quiet)
    theirs, begun = weights(init), weights(tmp_path / "still")
    own = {name.removeprefix("vertical."): x for name, x in begun.items() if name.startswith("vertical.")}
    assert {n: x for n, x in begun.items() if not n.startswith("vertical.")}.keys() == theirs.keys()
    assert torch.equal(own["layers.0.mlp.up_proj.weight"], theirs["layers.1.mlp.up_proj.weight"])
    assert torch.equal(own["norm.weight"], theirs["norm.weight"])
    assert not own["gate.2.weight"].any()
    assert own["gate.0.weight"].any()
    train(adapting(toy_config, init, frozen=1.0), [run_folder], tmp_path / "frozen", **quiet)
    frozen = weights(tmp_path / "frozen")
    for name in theirs:
        assert torch.equal(frozen[name], theirs[name]), name
    assert not torch.equal(frozen["vertical.norm.weight"], begun["vertical.norm.weight"])
    train(adapting(toy_config, init, frozen=0.5), [run_folder], tmp_path / "both", **quiet)
    assert not torch.equal(weights(tmp_path / "both")["norm.weight"], theirs["norm.weight"])
    # Once more from what it learned: nothing begins anew.
    train(adapting(still, tmp_path / "frozen"), [run_folder], tmp_path / "on", **quiet)
    assert torch.equal(weights(tmp_path / "on")["vertical.norm.weight"], frozen["vertical.norm.weight"])


def test_a_run_stopped_while_only_the_second_head_learns_goes_on_as_if_it_had_not(
    base, toy_config, run_folder, tmp_path
):
    config = adapting(toy_config, base_of(base, toy_config, run_folder), frozen=0.5)
    train(config, [run_folder], tmp_path / "whole", **quiet)
    train(config, [run_folder], tmp_path / "parts", until=1, **quiet)
    train(config, [run_folder], tmp_path / "parts", **quiet)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


def test_micro_batches_change_nothing_and_all_is_measured(base, toy_config, run_folder, tmp_path):
    init, losses = base_of(base, toy_config, run_folder), []
    for micro_rows in (1, 4):
        config = adapting(replace(toy_config, data=replace(toy_config.data, micro_rows=micro_rows)), init, frozen=0.0)
        train(config, [run_folder], tmp_path / str(micro_rows), **quiet)
        found = lines(tmp_path / str(micro_rows))
        losses.append([line[name] for line in found for name in ("loss", "diagonal", "below") if name in line])
        assert {"text", "structure", "vision", "diagonal", "below"} <= found[-1]["validation"].keys()
    assert len(losses[0]) > 8
    np.testing.assert_allclose(*losses, rtol=training_bound(config, VOCAB.size))


def test_in_bfloat16_under_fsdp_it_learns_too(base, toy_config, run_folder, tmp_path):
    few = replace(toy_config.checkpoint, every=12)
    config = adapting(
        replace(toy_config, precision="bfloat16", steps=12, checkpoint=few), base_of(base, toy_config, run_folder)
    )
    train(config, [run_folder], tmp_path / "run", **quiet)
    steps = [line["diagonal"] for line in lines(tmp_path / "run") if "diagonal" in line]
    assert steps[-1] < steps[0]


def test_an_exported_model_is_the_decoder_without_its_second_head(base, toy_config, run_folder, tmp_path):
    config = adapting(toy_config, base_of(base, toy_config, run_folder))
    train(config, [run_folder], tmp_path / "run", **quiet)
    model, vocab, _ = checkpoint.load_decoder(checkpoint.find(tmp_path / "run"))
    export_model(model, vocab, tmp_path / "hf", dtype=torch.float32)
    again = read_model(tmp_path / "hf").state_dict()
    assert again.keys() == weights(base).keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.items())
    train(replace(config, init=str(tmp_path / "hf")), [run_folder], tmp_path / "again", **quiet)  # and begins with it


def test_what_cannot_be_is_refused(toy_config, run_folder, tmp_path):
    for key, value in (("below_weight", -1.0), ("backbone_rate", -0.1), ("frozen", 2.0)):
        with pytest.raises(ConfigError, match=rf"diagonal\.{key} is"):
            train(adapting(toy_config, "", **{key: value}), [run_folder], tmp_path, **quiet)
    for layers, said in ((0, "trains a second head, of at least 1"), (3, "of which there are 2")):
        config = adapting(toy_config, "")
        config = replace(config, model=replace(config.model, vertical_layers=layers))
        with pytest.raises(ConfigError, match=said):
            train(config, [run_folder], tmp_path, **quiet)


TINY = Vocabulary("bytes", 2)
PICTURES = np.array(list(itertools.product(range(2), repeat=6))).reshape(-1, 2, 3)


def causal_world():
    """Law [64] of 2 x 3 pictures of two codes, each of which follows from its left and upper neighbor alone."""
    law = np.ones(len(PICTURES))
    for r, c in itertools.product(range(2), range(3)):
        left = PICTURES[:, r, c - 1] if c else 0
        up = PICTURES[:, r - 1, c] if r else 0
        one = np.array([[0.5, 0.9], [0.2, 0.6]])[left * np.ones(64, int), up * np.ones(64, int)]
        law *= np.where(PICTURES[:, r, c], one, 1 - one)
    return law


FLOOR = 0.5 - (1 - 0.5**0.5) ** 2


def coupled_world():
    """One fair coin falls on the codes right and below of the corner, and all others are 0.

    Draws of the two that are independent, 1 with p and q, have at most min(1/2, p q) + min(1/2, (1 - p) (1 - q)) in
    common with it, which is largest at p = q = sqrt(1/2): `FLOOR` away. Those that keep its shares are 1/2 away.
    """
    same = PICTURES[:, 0, 1] == PICTURES[:, 1, 0]
    rest = (PICTURES[:, 0, 0] == 0) & (PICTURES[:, 1, 1] == 0) & (PICTURES[:, 0, 2] == 0) & (PICTURES[:, 1, 2] == 0)
    return np.where(same & rest, 0.5, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "least", "most"), [(causal_world, 0.0, 0.06), (coupled_world, FLOOR, 0.55)])
def test_it_is_exact_where_codes_follow_from_left_and_above_and_has_the_known_floor_elsewhere(
    world, least, most, toy_config, shard_writer, tmp_path
):
    law = world()
    assert law.sum() == pytest.approx(1)
    shares = np.random.default_rng(0).multinomial(2_000, law)
    drawn = PICTURES.repeat(shares, axis=0)
    shard_writer(tmp_path / "data", [documents.image_document(TINY, picture, "") for picture in drawn], TINY)
    config = adapting(toy_config, "", frozen=0.0, backbone_rate=1.0, next_token_weight=0.0)
    config = replace(
        config,
        model=replace(config.model, hidden=32, mlp=48),
        data=replace(config.data, context=128, batch_rows=4, heldout=0.0),
        optimizer=replace(config.optimizer, lr=1e-2, warmup_steps=10, weight_decay=0.0),
        steps=250,
        validate_every=250,
        checkpoint=replace(config.checkpoint, every=250),
    )
    last = train(config, [tmp_path / "data"], tmp_path / "run", **quiet)
    model = checkpoint.load_decoder(last)[0]
    found = np.zeros(len(PICTURES))
    with torch.inference_mode():
        for number, picture in enumerate(PICTURES):
            tokens = documents.image_document(TINY, picture, "").tolist()
            begin = tokens.index(TINY.img)
            codes, states = states_behind(model, TINY, tokens, begin, tokens.index(TINY.eof) - 1)
            logits = states.mixed[0] @ model.lm_head.weight[TINY.vision_start :].t()
            wanted = torch.tensor(tokens)[codes] - TINY.vision_start
            found[number] = logits.double().log_softmax(1).gather(1, wanted[:, None]).sum().exp()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    away = np.abs(found - law).sum() / 2
    assert least <= away + 1e-6
    assert away <= most
