"""Every command that takes a model takes a training run, a checkpoint and a Hugging Face folder, and does the same."""

import base64
import io
import json
import shutil
import urllib.request

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from toy_run import reelmill, toy_run
from web_server import running

from reelmill.curation.captions.config import CheckpointConfig
from reelmill.curation.captions.contract import AnswerSettings, Question
from reelmill.curation.pictures import PixelBounds
from reelmill.errors import ConfigError, DataError
from reelmill.eval.preference import Candidates
from reelmill.pipelines import web
from reelmill.pipelines.curate.checkpoint_captioner import CheckpointCaptioner

TOKENIZER = ("--tokenizer", "reelmill-tok-xs")
SIZE = ("--area", 16 * 16)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return toy_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def models(run, tmp_path_factory):
    """The folder and the options that it needs, by kind."""
    exported = tmp_path_factory.mktemp("exported") / "hf"
    reelmill("export", run, exported, "--dtype", "float32", "--architecture", "emu3", "--context-tokens", 999)
    checkpoint = run / "checkpoints/step-000001"
    elsewhere = shutil.copytree(exported, exported.parent / "elsewhere")
    config = json.loads((elsewhere / "config.json").read_text())
    del config["reelmill_training"]
    (elsewhere / "config.json").write_text(json.dumps(config))
    return {
        "run": (run, ()), "checkpoint": (checkpoint, ()), "export": (exported, ()),
        "Hugging Face": (elsewhere, TOKENIZER),
    }  # fmt: skip


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "grey.png"
    Image.new("RGB", (16, 16), "grey").save(path)
    return path


def same(results):
    first, *others = results
    return all(np.array_equal(first, other) for other in others)


def test_generate(models, tmp_path):
    pictures = []
    for kind, (folder, options) in models.items():
        reelmill("generate", folder, "--prompt", "a", *SIZE, *options, "--out", tmp_path / f"{kind}.png")
        pictures.append(np.asarray(Image.open(tmp_path / f"{kind}.png")))
    assert same(pictures)


def test_ask(models, picture):
    how = (*SIZE, "--max-tokens", 12, "--temperature", 1)
    assert same([reelmill("ask", folder, picture, *how, *options) for folder, options in models.values()])


def test_serve(models, tmp_path, monkeypatch):
    answers = []

    def serve_one_request(app, listener, on_stop, failed=None):
        with running(app, listener) as url:
            body = json.dumps({"prompt": "a", "size": "16x16", "seed": 1}).encode()
            wanted = urllib.request.Request(f"{url}/v1/images/generations", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(wanted, timeout=120) as answer:
                answers.append(json.load(answer)["data"][0]["b64_json"])

    monkeypatch.setattr(web, "serve", serve_one_request)
    for folder, options in models.values():
        said = reelmill("serve", folder, *SIZE, "--port", 0, "--out", tmp_path, "--gallery", 0, *options)
        assert said.endswith("ended\n")
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(answer)))) for answer in answers]
    assert len(pictures) == len(models) and same(pictures)


def test_prefer_sample(models, tmp_path):
    sampled = []
    for kind, (folder, options) in models.items():
        out = tmp_path / kind
        reelmill("prefer", "sample", folder, "--prompt", "a", "--count", 2, *SIZE, *options, "--out", out)
        reelmill("prefer", "sample", folder, "--prompt", "a", "--count", 2, *SIZE, *options, "--out", out)
        candidates = Candidates(out)
        assert len(candidates) == 2
        sampled.append([tokens for tokens, _ in candidates.read(list(candidates.by_id.values()))])
    # The order is that of ids, which name the weights by their files; the pictures are the same.
    assert same([sorted(tokens.tolist() for tokens in each) for each in sampled])


def test_export(models, tmp_path):
    weights = []
    for kind, (folder, _) in models.items():
        reelmill("export", folder, tmp_path / kind, "--dtype", "float32")
        weights.append(load_file(tmp_path / kind / "model-00001-of-00001.safetensors"))
    assert all(weights[0].keys() == each.keys() for each in weights)
    assert all(same([each[name] for each in weights]) for name in weights[0])


def test_caption_run(models, picture):
    answers = []
    for folder, options in models.values():
        tokenizer = options[1] if options else ""
        config = CheckpointConfig(model=str(folder), tokenizer=tokenizer, pictures=PixelBounds(256, 256))
        captioner = CheckpointCaptioner(config)
        captioner.setup(AnswerSettings(max_tokens=12, temperature=1.0, frames=1))
        stream = io.BytesIO()
        Image.open(picture).save(stream, "JPEG")
        (reply,) = captioner.ask(iter([Question({"kind": "image"}, "What?", [[stream.getvalue()]])]))
        answers.append(reply.answers[0].text)
    assert same(answers)


def test_what_is_no_model_or_lacks_its_vision_tokenizer_says_so(models, picture, tmp_path):
    folder, _ = models["Hugging Face"]
    for command in (("generate", folder, "--prompt", "a"), ("ask", folder, picture), ("serve", folder, "--port", 0)):
        with pytest.raises(ConfigError, match="does not say which vision tokenizer"):
            reelmill(*command)
    with pytest.raises(DataError, match="4,096 are codes; reelmill-tok-s has 32,768"):
        reelmill("generate", folder, "--prompt", "a", "--tokenizer", "reelmill-tok-s")
    with pytest.raises(DataError, match="but reelmill-tok-s is"):
        reelmill("generate", models["export"][0], "--prompt", "a", "--tokenizer", "reelmill-tok-s")
    for command in (("generate", "--prompt", "a"), ("ask", picture), ("serve",), ("export", tmp_path / "x")):
        name, *arguments = command
        with pytest.raises(DataError, match=r"is no model: it has no config\.json"):
            reelmill(name, tmp_path, *arguments)
    with pytest.raises(DataError, match="is no model"):
        reelmill("prefer", "sample", tmp_path, "--prompt", "a", "--out", tmp_path / "p")
