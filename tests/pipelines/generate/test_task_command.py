"""`reelmill generate --task` and tasks of `serve`, with a model whose next token follows from the last alone."""

import base64
import io

import numpy as np
import openai
import pytest
from PIL import Image
from tiny_server import chained_studio, frames_tokenizer, served
from toy_run import reelmill

from reelmill.errors import ConfigError
from reelmill.eval.generation import pages
from reelmill.eval.generation.media_files import read_settings
from reelmill.tokenize.layout import EMU3_5
from reelmill.tokenize.vision import save
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.hub import export_model

V = Vocabulary("bytes", 32, EMU3_5)
STORY = {
    V.bss: [V.bog], V.bog: [ord("h")], ord("h"): [V.eog], V.eog: [ord("<")], ord("<"): [V.boi], V.boi: [ord("2")],
    ord("2"): [ord("*"), V.img], ord("*"): [ord("3")], ord("3"): [V.img], V.eoi: [ord("z"), V.ess], ord("z"): [V.boi],
    V.ess: [V.eos],
}  # fmt: skip
"""Thinks "h", says "<", draws 2 x 3 codes, says "z", draws again, and so on."""


@pytest.fixture(scope="module")
def studio():
    return chained_studio(STORY, frames_tokenizer())


@pytest.fixture(scope="module")
def model(studio, tmp_path_factory):
    """(a Hugging Face folder, the file of its vision tokenizer)."""
    folder = tmp_path_factory.mktemp("model")
    export_model(studio.model, studio.vocab, folder / "hf")
    save(studio.vision.model, "tiny-frames", folder / "tiny.safetensors")
    return folder / "hf", folder / "tiny.safetensors"


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "before.png"
    Image.new("RGB", (32, 16), "red").save(path)
    return path


GREEDY = ("--temperature", 0, "--text-temperature", 0)


def generate(model, *args):
    return reelmill("generate", model[0], "--tokenizer", model[1], *GREEDY, *args).replace("\n", "")


def test_a_picture_has_the_ratio_asked_for_or_the_models_own(model, tmp_path):
    asked = ("--task", "t2i", "--prompt", "a disc", "--area", 16 * 16)
    assert "x.png: 32x8 pixels" in generate(model, *asked, "--ratio", "4:1", "--out", tmp_path / "x.png")
    assert "y.png: 12x8 pixels" in generate(model, *asked, "--ratio", "auto", "--out", tmp_path / "y.png")
    assert (
        read_settings(tmp_path / "x.png").items() >= {"task": "t2i", "image_guidance": 1.0, "prompt": "a disc"}.items()
    )


def test_a_picture_has_room_for_its_codes_and_for_words_before_it(model, tmp_path):
    """Of 70 x 70 codes too: more than a page has by default."""
    asked = ("--task", "t2i", "--prompt", "a disc", "--out", tmp_path / "x.png", "--area")
    with pytest.raises(ConfigError, match=r"--max-tokens is 4,096, and a picture of 70 x 70 codes takes 4,969"):
        generate(model, *asked, 280 * 280, "--max-tokens", 4096)
    assert "x.png: 16x16 pixels" in generate(model, *asked, 16 * 16)
    assert read_settings(tmp_path / "x.png")["max_tokens"] == 4 * 5 - 1 + 1024


def test_an_edit_keeps_the_shape_of_its_picture_under_both_kinds_of_guidance(model, image, tmp_path):
    asked = ("--task", "x2i", "--prompt", "blue", "--image", image, "--area", 16 * 32)
    asked = (*asked, "--guidance", 2, "--image-guidance", 1.5, "--out", tmp_path / "x.png")
    assert "x.png: 32x16 pixels" in generate(model, *asked)
    assert "x.png: 32x16 pixels" in generate(model, *asked, "--image", image, "--image", image)
    assert read_settings(tmp_path / "x.png")["image"] == [str(image)] * 3


def test_a_story_is_a_page_that_grows(model, tmp_path, monkeypatch):
    written = []
    real = pages.write_page

    def noted(parts, path, settings):
        written.append([type(part).__name__ for part in parts])
        return real(parts, path, settings)

    monkeypatch.setattr(pages, "write_page", noted)
    asked = ("--task", "story", "--prompt", "ten steps", "--max-tokens", 45, "--out", tmp_path / "s.html")
    generate(model, *asked)
    assert written == [["Thought", "str", "Clip"], ["Thought", "str", "Clip", "str", "Clip"], [
        "Thought", "str", "Clip", "str", "Clip", "str", "Clip"]]  # fmt: skip
    page = (tmp_path / "s.html").read_text()
    assert page.index("<blockquote><p>h</p></blockquote>") < page.index("<p>&lt;</p>") < page.index('src="s-1.png"')
    assert page.index('src="s-2.png"') > page.index("<p>z</p>")
    assert Image.open(tmp_path / "s-3.png").size == (12, 8)


def test_what_tasks_do_not_take_is_said_before_a_model_is_loaded(tmp_path, image):
    for args, said in (
        (("--task", "t2i", "--image", image), "x2i"),
        (("--task", "story", "--seconds", 2), "--task takes --prompt and --image"),
        (("--task", "x2i", *("--image", image) * 4), "at most 3"),
        (("--task", "x21"), "no task 'x21'; did you mean 'x2i'"),
        (("--ratio", "auto"), "only with --task"),
        (("--image-guidance", 2), "without --task"),
        (("--image", image, "--image", image, "--seconds", 1), "several pictures are for --task, and two, the first"),
    ):
        with pytest.raises(ConfigError, match=said):
            reelmill("generate", tmp_path / "none", "--prompt", "a", *args)


def test_a_server_streams_a_story_and_edits_a_picture(studio, image, tmp_path):
    with served(studio, tmp_path, context_tokens=600) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
        usual = {"model": "tiny", "temperature": 0, "max_tokens": 45}
        messages = [{"role": "user", "content": "ten steps"}]
        chunks = client.chat.completions.create(messages=messages, stream=True, extra_body={"task": "story"}, **usual)
        pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
        text = "".join(pieces)
        assert text.startswith("> h\n\n<\n\n![picture](data:image/png;base64,") and text.count("![picture]") == 3
        shown = "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode()
        content = [{"type": "image_url", "image_url": {"url": shown}}, {"type": "text", "text": "blue"}]
        guided = {"task": "x2i", "guidance": 2.0, "image_guidance": 1.5}
        answer = client.chat.completions.create(
            messages=[{"role": "user", "content": content}], extra_body=guided, **usual
        )
        drawn = answer.choices[0].message.content
        assert drawn.count("![picture]") == 1 and answer.choices[0].finish_reason == "stop"
        data = base64.b64decode(drawn.split("base64,")[1].rstrip(")"))
        assert np.asarray(Image.open(io.BytesIO(data))).shape[:2] == (8, 12)
        with pytest.raises(openai.BadRequestError, match="no task 'x21'"):
            client.chat.completions.create(messages=messages, extra_body={"task": "x21"}, **usual)
