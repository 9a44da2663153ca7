"""The tokenizer's trainer on tiny data: it learns, resumes exactly, runs over ranks, and writes what `load` takes."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rounding import assert_near, network_sums, rounding

from reelmill.config import from_dict, to_toml
from reelmill.errors import ConfigError, DataError, Interrupted, Preempted
from reelmill.eval.reconstruction import metrics
from reelmill.tokenize.vision import load
from reelmill.tokenize.vision.movq import MoVQ, MoVQConfig
from reelmill.train import checkpoint
from reelmill.train.parallel import join_ranks
from reelmill.train.saver import CheckpointConfig
from reelmill.train.vision.config import TokenizerOptimizerConfig, TokenizerRecipe
from reelmill.train.vision.data import Crops, DataConfig, as_signal, batches
from reelmill.train.vision.fit import kmeans
from reelmill.train.vision.init_from import init_from
from reelmill.train.vision.losses import LossConfig, pixel_terms, similarity
from reelmill.train.vision.media import MediaCache, MediaFile, find
from reelmill.train.vision.recipes import RECIPES, recipe
from reelmill.train.vision.revival import Revival
from reelmill.train.vision.run import judged_media, split, train

FSQ = MoVQConfig(
    channels=16, channel_multipliers=(1, 1), res_blocks=1, attention_levels=(), mid_attention=False, patch=4,
    z_channels=8, embed_dim=8, norm_groups=4, temporal_norm="group", quantizer="fsq", codes=64, fsq_levels=(8, 8),
    causal=True,
)  # fmt: skip
NEAREST = replace(FSQ, quantizer="nearest", fsq_levels=(), causal=False)
RECIPE = TokenizerRecipe(
    name="toy", model=FSQ, data=DataConfig(pictures=2, clips=1, sizes=(32,)),
    optimizer=TokenizerOptimizerConfig(warmup_steps=2), steps=8, log_every=2, checkpoint=CheckpointConfig(every=4),
    device="cpu",
)  # fmt: skip
GAN = replace(
    RECIPE,
    model=NEAREST,
    revive_every=2,
    loss=LossConfig(lpips=0.1, lpips_start=2, adversarial=0.1, adversarial_start=1),
)
FITTED = replace(
    RECIPE,
    model=replace(NEAREST, channel_multipliers=(1,), patch=8, shortcut=True, causal=True),
    data=DataConfig(pictures=2, clips=1, sizes=(32, 48), latents=(2, 1)),
    revive_every=2,
    fit=256,
)


DECODER = replace(
    RECIPE,
    model=replace(FITTED.model, decoder_blocks=4),
    loss=LossConfig(lpips=0.1, ssim=0.1, adversarial=0.1, adversarial_start=1),
    train_only="decoder",
    init="a file that begun_at names",
)


def begun_at(folder, out):
    """The recipe that goes on from a tokenizer of one step, whose file is in `out`."""
    return replace(DECODER, init=str(train(replace(FITTED, steps=1), find([folder]), [], out, log_fn=quiet)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures and one 40-frame video, of moving colour gradients."""
    import av

    y, x = np.mgrid[:48, :64]
    frames = [
        np.stack([(x * 4 + 9 * t) % 256, (y * 5) % 256, (x + y + 5 * t) % 256], -1).astype(np.uint8) for t in range(40)
    ]
    root = tmp_path_factory.mktemp("media")
    Image.fromarray(frames[0]).save(root / "one.png")
    Image.fromarray(frames[5]).convert("RGBA").save(root / "two.png")
    with av.open(str(root / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 64, 48
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return root


def quiet(_line):
    """Nobody listens."""


@pytest.fixture(scope="module")
def gan_run(folder, tmp_path_factory):
    """The folder of an undisturbed run of GAN with a line of the log per step."""
    out = tmp_path_factory.mktemp("gan")
    train(replace(GAN, log_every=1), find([folder]), [], out, log_fn=quiet)
    return out


def weights_of(path):
    return load(path).model.state_dict()


def assert_equal_weights(one, other):
    theirs = weights_of(other)
    for name, tensor in weights_of(one).items():
        assert torch.equal(tensor, theirs[name]), name


def lines_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def steps_of(out):
    return [line for line in lines_of(out) if "loss" in line]


def test_a_run_learns_logs_and_leaves_pictures_and_a_tokenizer(folder, tmp_path):
    sources = find([folder])
    longer = replace(RECIPE, steps=60, log_every=10, checkpoint=CheckpointConfig(every=60))
    path = train(
        longer, sources, [MediaFile(folder / "one.png"), MediaFile(folder / "clip.mp4")], tmp_path, log_fn=quiet
    )
    rows = lines_of(tmp_path)
    losses = [row["l1"] for row in rows if "l1" in row]
    assert len(losses) == 6 and losses[-1] < 0.8 * losses[0]
    assert {"l1", "l2", "edges", "colour", "flicker", "quantizer", "loss", "grad_norm", "lr"} <= rows[0].keys()
    assert {"psnr/one.png", "psnr/clip.mp4", "flicker/clip.mp4", "codes_used"} <= rows[-1]["validation"].keys()
    assert (tmp_path / "pictures" / "step-0000060" / "clip.mp4.png").is_file()
    tokenizer = load(path)
    assert (tokenizer.name, tokenizer.codes, tokenizer.spatial, tokenizer.temporal) == ("toy", 64, 8, 4)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(RECIPE, id="fsq", marks=pytest.mark.slow),
        pytest.param(FITTED, id="fitted"),
        pytest.param(DECODER, id="decoder", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_an_undisturbed_one(folder, tmp_path, kind):
    sources = find([folder])
    kind = begun_at(folder, tmp_path / "first") if kind is DECODER else kind
    whole = train(kind, sources, [], tmp_path / "whole", log_fn=quiet)
    train(kind, sources, [], tmp_path / "parts", until=5, log_fn=quiet)
    parts = train(kind, sources, [], tmp_path / "parts", log_fn=quiet)
    assert_equal_weights(whole, parts)


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [
        pytest.param("SIGTERM", Preempted, 75, id="SIGTERM"),
        pytest.param("SIGINT", Interrupted, 130, id="SIGINT", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_run_goes_on_exactly(folder, gan_run, tmp_path, number, error, code):
    """In a step that is no multiple of `checkpoint.every`, with adversary, LPIPS and revival on."""

    def stop(line):
        if line.startswith("step 3 "):
            signal.raise_signal(signal.Signals[number])

    recipe, sources = replace(GAN, log_every=1), find([folder])
    with pytest.raises(error, match=f"stopped by {number}, saved after 3 steps; the same command goes on"):
        train(recipe, sources, [], tmp_path, log_fn=stop)
    assert error.exit_code == code
    assert checkpoint.latest(tmp_path / "checkpoints").name == "step-000003"
    assert_equal_weights(gan_run / "toy.safetensors", train(recipe, sources, [], tmp_path, log_fn=quiet))
    lines, undisturbed = ([line | {"seconds": 0} for line in lines_of(place)] for place in (tmp_path, gan_run))
    assert lines == undisturbed


@pytest.mark.slow
def test_a_signal_to_all_processes_of_a_run_saves_too(folder, tmp_path):
    """As Slurm sends it: to the command and to the processes that decode for it."""
    recipe = replace(RECIPE, steps=100_000, log_every=1, data=replace(RECIPE.data, workers=2))
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    command = [sys.executable, "-m", "reelmill", "tokenizer", "train", str(tmp_path / "recipe.toml")]
    arguments = ["--data", str(folder), "--held-out", str(folder / "one.png"), "--out", str(tmp_path / "out")]
    with subprocess.Popen([*command, *arguments], start_new_session=True, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step 2 "):
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == 75
    assert checkpoint.read_state_as(checkpoint.RunState, checkpoint.latest(tmp_path / "out/checkpoints")).step >= 2


def test_a_folder_of_an_earlier_version_says_what_to_do(folder, tmp_path):
    (tmp_path / "state.pt").touch()
    with pytest.raises(ConfigError, match=r"earlier version .* --set init=.*toy\.safetensors"):
        train(RECIPE, find([folder]), [], tmp_path, log_fn=quiet)


def test_training_begins_at_the_best_linear_codec_of_patches(folder, tmp_path):
    """With as many components as matter and a code for every patch that was fitted, little is left to learn."""
    one = replace(
        FITTED, steps=1, fit=512, model=replace(FITTED.model, codes=512), optimizer=TokenizerOptimizerConfig(lr=1e-9)
    )
    fitted, plain = (
        load(train(replace(one, fit=fit), find([folder]), [], tmp_path / str(fit), log_fn=quiet)) for fit in (512, 0)
    )
    picture = np.asarray(Image.open(folder / "one.png"))[:, :48]
    errors = [
        (tokenizer.decode_image(tokenizer.encode_image(picture)).astype(float) - picture).std()
        for tokenizer in (fitted, plain)
    ]
    assert errors[0] < 0.35 * errors[1]
    basis = fitted.model.encoder.shortcut.basis
    bound = rounding(torch.float16, basis.shape[1])  # they are kept in float16
    assert_near(basis @ basis.T, torch.eye(len(basis)), bound)


def error_on(path, folder, config):
    """Mean squared error over batches that no training of 40 steps has seen."""
    model, crops = load(path).model, Crops(find([folder]), config)
    with torch.inference_mode():
        signals = [(as_signal(pictures), as_signal(clips)) for pictures, clips in batches(crops, range(900, 906), 0)]
        return np.mean([float(pixel_terms(model(*signal), *signal)["l2"]) for signal in signals])


def test_of_the_decoder_alone_the_codes_stay_and_the_error_falls(folder, tmp_path):
    plain = replace(begun_at(folder, tmp_path / "first"), loss=LossConfig(ssim=0.1))
    longer = replace(plain, steps=40, checkpoint=CheckpointConfig(every=40))
    path = train(longer, find([folder]), [], tmp_path / "second", log_fn=quiet)
    first, second = load(longer.init), load(path)
    picture = np.asarray(Image.open(folder / "one.png"))
    assert np.array_equal(first.encode_image(picture), second.encode_image(picture))
    assert np.array_equal(first.encode(np.stack([picture] * 6)), second.encode(np.stack([picture] * 6)))
    assert error_on(path, folder, plain.data) < 0.9 * error_on(longer.init, folder, plain.data)
    before, after = first.model.state_dict(), second.model.state_dict()
    kept = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    trained = {name for name in before if name.startswith(("decoder.", "post_quant_conv."))}
    assert before.keys() - trained <= kept and "decoder.conv_out.weight" not in kept
    assert after.keys() - before.keys() and first.fingerprint != second.fingerprint


def test_more_blocks_begin_as_the_identity(folder, tmp_path):
    kind = begun_at(folder, tmp_path)
    model = MoVQ(kind.model)
    init_from(model, kind.init)
    codes = torch.arange(24).reshape(1, 1, 4, 6)
    with torch.inference_mode():
        assert_near(
            model.decode(codes), load(kind.init).model.decode(codes), rounding(torch.float32, network_sums(model))
        )


def test_another_model_cannot_begin_there(folder, tmp_path):
    kind = begun_at(folder, tmp_path)
    with pytest.raises(ConfigError, match="codes: 64 -> 32"):
        init_from(MoVQ(replace(kind.model, codes=32)), kind.init)
    with pytest.raises(ConfigError, match="only be more"):
        init_from(MoVQ(replace(kind.model, decoder_blocks=1)), kind.init)
    with pytest.raises(ConfigError, match="revive_every 2"):
        replace(kind, revive_every=2)
    with pytest.raises(ConfigError, match="name the tokenizer"):
        replace(kind, init="")


def test_the_similarity_that_is_trained_is_the_one_that_is_measured():
    rng = np.random.default_rng(0)
    original = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    decoded = np.clip(original + rng.normal(0, 40, original.shape), 0, 255).astype(np.uint8)
    one, other = (torch.from_numpy(frames).movedim(-1, -3).double() / 127.5 - 1 for frames in (original, decoded))
    # Windows of 11 x 11; variances are differences of numbers up to 1 and are divided by no less than C2.
    bound = rounding(torch.float64, 2 * 11) / 0.03**2
    assert float(similarity(one, other)) == pytest.approx(metrics.ssim(original, decoded).mean(), abs=bound)


def test_kmeans_finds_clusters_and_leaves_no_centre_where_nothing_is():
    generator = torch.Generator().manual_seed(0)
    clusters = torch.randn(8, 4, generator=generator) * 10
    vectors = (clusters.unsqueeze(1) + 0.01 * torch.randn(8, 50, 4, generator=generator)).flatten(0, 1)
    centres = kmeans(vectors, 40, seed=0)
    assert torch.cdist(vectors, centres).min(1).values.max() < 0.05
    assert torch.cdist(centres, clusters).min(1).values.max() < 0.05
    assert kmeans(vectors[:10], 16, seed=0).shape == (16, 4)


def test_a_length_goes_with_each_size(folder):
    config = replace(RECIPE.data, sizes=(32, 48), latents=(3, 1))
    shapes = {clips.shape[1:3] for _, clips in batches(Crops(find([folder]), config), range(12), seed=0)}
    assert shapes == {(12, 32), (4, 48)}
    with pytest.raises(ConfigError, match="one for each size"):
        replace(config, latents=(1, 2, 3))


def test_bfloat16_trains(folder, tmp_path):
    train(replace(RECIPE, precision="bfloat16", steps=2), find([folder]), [], tmp_path, log_fn=quiet)
    assert load(tmp_path / "toy.safetensors").codes == 64


def test_every_loss_is_logged_and_starts_when_it_should(gan_run):
    steps = {row["step"]: row for row in steps_of(gan_run)}
    assert "adversarial" not in steps[1] and {"adversarial", "discriminator"} <= steps[2].keys()
    assert "lpips" not in steps[2] and "lpips" in steps[3]
    assert "revived" in steps[2] and "revived" not in steps[3]


def test_dead_codes_become_different_vectors_in_all_models():
    """Codes 8 to 63 go undrawn; 4 vectors revive 4 of them, each vector once, and no living code moves."""
    models = [MoVQ(NEAREST), MoVQ(NEAREST)]
    books = [model.quantize.embedding.weight for model in models]
    before = [book.detach().clone() for book in books]
    vectors = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(-1, 8, -1, -1, -1)
    with join_ranks("cpu") as ranks:
        revival = Revival(64, ranks)
        revival.count(torch.arange(8))
        assert revival.revive(models, vectors, seed=0) == 0  # too early to tell
        for _ in range(400):
            revival.count(torch.arange(8))
        assert revival.revive(models, vectors, seed=0) == 4
        moved = [(book != old).any(1) for book, old in zip(books, before, strict=True)]
        assert torch.equal(moved[0], moved[1]) and moved[0].sum() == 4 and not moved[0][:8].any()
        assert all(sorted(book[moved[0], 0].tolist()) == [0, 1, 2, 3] for book in books)
        assert revival.revive(models, vectors, seed=1) == 4
        again = (books[0] != before[0]).any(1)
        assert again.sum() == 8 and bool(again[moved[0]].all())  # the revived count as drawn


def test_logged_terms_are_means_over_the_steps_that_had_them(folder, gan_run, tmp_path):
    """A term that starts amid a window of 4, a run that resumes there: the same numbers as step by step."""
    sources, four = find([folder]), replace(GAN, log_every=4)
    train(four, sources, [], tmp_path, until=6, log_fn=quiet)
    train(four, sources, [], tmp_path, log_fn=quiet)
    single, (first, last) = steps_of(gan_run), steps_of(tmp_path)
    for key, rows, found in (("l1", single[:4], first), ("lpips", single[2:4], first), ("l1", single[6:], last)):
        assert found[key] == pytest.approx(np.mean([row[key] for row in rows]))
    assert first["revived"] == np.mean([single[1]["revived"], single[3]["revived"]])


def test_a_run_refuses_other_settings_and_other_media(folder, tmp_path):
    train(RECIPE, find([folder]), [], tmp_path, until=1, log_fn=quiet)
    before = (tmp_path / "recipe.toml").read_bytes()
    with pytest.raises(ConfigError, match=r"loss\.l2"):
        train(replace(RECIPE, loss=LossConfig(l2=1.0)), find([folder]), [], tmp_path, log_fn=quiet)
    assert (tmp_path / "recipe.toml").read_bytes() == before
    with pytest.raises(ConfigError, match="training data"):
        train(RECIPE, [*find([folder]), MediaFile(folder / "one.png", name="more.png")], [], tmp_path, log_fn=quiet)


def under_torchrun(folder, out, kind, until=4, recipe="GAN"):
    """Train a recipe on two gloo ranks by `kind` in a process group of its own."""
    script = (
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1]); import test_vision_trainer as t\n"
        "checkpoint = t.CheckpointConfig(every=2)\n"
        "recipe = replace(getattr(t, sys.argv[6]), parallel=sys.argv[4], steps=4, checkpoint=checkpoint)\n"
        "t.train(recipe, t.find([Path(sys.argv[2])]), [], Path(sys.argv[3]), until=int(sys.argv[5]), log_fn=t.quiet)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    arguments = [str(Path(__file__).parent), str(folder), str(out), kind, str(until), recipe]
    done = subprocess.run(
        [*command, sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return weights_of(out / "toy.safetensors")


@pytest.mark.slow
def test_two_ranks_train_the_same_by_ddp_and_by_fsdp(folder, tmp_path):
    ddp, fsdp = (under_torchrun(folder, tmp_path / kind, kind) for kind in ("ddp", "fsdp"))
    for name, one in ddp.items():
        torch.testing.assert_close(one, fsdp[name], rtol=1e-2, atol=2e-3)


@pytest.mark.slow
def test_two_ranks_fit_the_same(folder, tmp_path):
    ddp, fsdp = (under_torchrun(folder, tmp_path / kind, kind, recipe="FITTED") for kind in ("ddp", "fsdp"))
    for name, one in ddp.items():
        torch.testing.assert_close(one, fsdp[name], rtol=1e-2, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_ranks_resume_exactly(folder, tmp_path, kind):
    whole = under_torchrun(folder, tmp_path / "whole", kind)
    under_torchrun(folder, tmp_path / "parts", kind, until=2)
    for name, one in under_torchrun(folder, tmp_path / "parts", kind).items():
        assert torch.equal(one, whole[name]), name


def test_batches_are_a_function_of_seed_step_and_rank_however_many_workers(folder):
    sources = find([folder])
    plain = list(batches(Crops(sources, RECIPE.data), range(3, 6), seed=1))
    worked = list(batches(Crops(sources, replace(RECIPE.data, workers=2)), range(3, 6), seed=1))
    other = list(batches(Crops(sources, RECIPE.data), range(3, 6), seed=1, rank=1))
    for one, two, three in zip(plain, worked, other, strict=True):
        assert one[0].shape == (2, 32, 32, 3) and one[1].shape == (1, 8, 32, 32, 3) and one[0].dtype == torch.uint8
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
        assert not torch.equal(one[0], three[0])


def test_media_come_from_folders_and_webdataset_tars(folder, tmp_path):
    with tarfile.open(tmp_path / "shard-000.tar", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=f"000{path.name}")
    (tmp_path / "link.png").symlink_to(folder / "one.png")
    loose, packed = find([folder]), find([tmp_path])
    assert [s.is_video for s in packed] == [s.is_video for s in loose] == [True, False, False]
    cache = MediaCache(48, 10**9)
    for one, other in zip(loose, packed, strict=True):
        assert np.array_equal(cache.frames(one), cache.frames(other))
    assert len(cache.frames(loose[0])) == 40
    assert len(cache.frames(loose[0], 2.5)) == 20  # 8 frames/s, 5 s
    assert len(cache.frames(replace(loose[0], end_s=1.0))) == 8


def test_memory_is_bounded_and_unreadable_files_are_named_and_left_out(folder, tmp_path, caplog):
    sources = find([folder])
    cache = MediaCache(48, 20_000)
    for source in sources * 2:
        cache.frames(source)
    assert sum(frames.nbytes for frames in cache._kept.values()) <= 20_000 or len(cache._kept) == 1
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    assert len(cache.frames(MediaFile(tmp_path / "broken.jpg"))) == 0
    assert "broken.jpg" in caplog.text


def test_media_must_be_there(folder, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        find([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="found 1 and 0"):
        Crops([MediaFile(folder / "one.png")], RECIPE.data)


def test_held_out_media_are_chosen_by_name_and_judged_at_one_size(folder):
    sources = [MediaFile(folder / "one.png", name=f"{i}.png") for i in range(1000)]
    training, held_out = split(sources, 0.1)
    assert 70 < len(held_out) < 130 and len(training) + len(held_out) == 1000
    assert split(sources[::-1], 0.1)[1] == held_out[::-1]
    media = judged_media([MediaFile(folder / "one.png"), MediaFile(folder / "clip.mp4")])
    assert media["one.png"].shape[0] == 1 and media["clip.mp4"].shape[0] == 24
    assert abs(media["one.png"].shape[1] * media["one.png"].shape[2] - 256**2) < 4000


def test_recipes_have_names_and_survive_toml():
    for name in RECIPES:
        assert recipe(name).name == name.removesuffix("-decoder").removesuffix("-finetune")
        assert from_dict(TokenizerRecipe, tomllib.loads(to_toml(recipe(name)))) == recipe(name)
    with pytest.raises(ConfigError, match="reelmill-tok-s"):
        recipe("reelmill-tok-z")
