"""What the page of `reelmill serve` asks for beyond pictures and words: tasks, videos, clips, and what is learned."""

import base64
import dataclasses
import io
import itertools
import json
import urllib.error
import urllib.request

import av
import numpy as np
import pytest
from PIL import Image
from tiny_server import chained_studio, frames_tokenizer, gated_steps, random_studio, served
from toy_run import toy_run

from reelmill.eval.generation import Clip, SamplingParams, task_picture_request
from reelmill.eval.generation.media_files import read_settings, write_clip
from reelmill.pipelines.serve.abilities import modes, training_facts
from reelmill.pipelines.serve.chat_request import ChatRequest, engine_request
from reelmill.pipelines.serve.served_model import ServeConfig
from reelmill.pipelines.serve.videos_endpoint import VideoJob, VideosRequest
from reelmill.tokenize import documents
from reelmill.tokenize.documents import Header, Visual, task_document
from reelmill.tokenize.shards import document_row, write_shard
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train.config import TrainConfig
from reelmill.train.data.config import DataConfig
from reelmill.train.model import ModelConfig
from reelmill.train.provenance import Training
from reelmill.train.run import train


@pytest.fixture(scope="module")
def emu3(tmp_path_factory):
    """A studio of Emu3's layout, its server's address and its model."""
    studio = random_studio()
    with served(studio, tmp_path_factory.mktemp("emu3"), area=32 * 32) as (url, model):
        yield studio, url, model


@pytest.fixture(scope="module")
def emu35(tmp_path_factory):
    """The same of Emu3.5's layout; 4 x 4 pixels a code."""
    studio = random_studio(frames_tokenizer())
    with served(studio, tmp_path_factory.mktemp("emu35"), area=16 * 16) as (url, model):
        yield studio, url, model


def post(url, path, body):
    """(status, JSON)"""
    asked = urllib.request.Request(f"{url}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask(url, path, body):
    status, answer = post(url, path, body)
    assert status == 200, answer
    return answer


def events(url, path, body):
    """The events of a stream, comments among them, as they arrive."""
    body = json.dumps({**body, "stream": True}).encode()
    asked = urllib.request.Request(f"{url}/v1/{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=120) as stream:
        for line in stream:
            text = line.decode()
            if text.startswith(": ") or (text.startswith("data: ") and "[DONE]" not in text):
                yield json.loads(text.partition(": ")[2])


def uri(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def pixels(b64):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))).convert("RGB"))


def noise(*shape):
    return np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_an_edit_keeps_the_shape_and_depends_on_the_picture(emu35):
    url, before = emu35[1], noise(8, 32)
    asked = {"task": "x2i", "images": [uri(png(before))], "seed": 5, "guidance": 2.0, "image_guidance": 1.5}
    answer = ask(url, "images/generations", {"prompt": "make it red", **asked})
    assert answer["size"] == "32x8", "the shape of what is edited"
    again = ask(url, "images/generations", {"prompt": "make it red", **asked})
    assert again["data"][0]["b64_json"] == answer["data"][0]["b64_json"]
    other = ask(url, "images/generations", {"prompt": "make it red", **asked, "images": [uri(png(255 - before))]})
    assert other["data"][0]["b64_json"] != answer["data"][0]["b64_json"], "it depends on the picture"
    drawn = ask(url, "images/generations", {"prompt": "a disc", "task": "t2i", "size": "16x16", "seed": 1})
    assert pixels(drawn["data"][0]["b64_json"]).shape == (16, 16, 3)


def test_the_tokens_of_an_edit_are_those_of_its_request_alone(emu35):
    studio, url, _ = emu35
    before = noise(16, 16)
    given = [Visual(studio.vision.encode_image(before))]
    request = task_picture_request(
        studio.visual_grammar, "x2i", "fold it", Header(4, 4), pictures=given, sampling=SamplingParams(seed=9)
    )
    (tokens,) = studio.generate([request])
    *_, drawn = (part for part in studio.parts(tokens) if isinstance(part, Clip))
    asked = {"prompt": "fold it", "task": "x2i", "images": [uri(png(before))], "seed": 9}
    answer = ask(url, "images/generations", asked)
    assert np.array_equal(pixels(answer["data"][0]["b64_json"]), drawn.frames[0])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"images": [uri(png(noise(8, 8)))]}, "x2i takes 1 to 3"),
        ({"task": "x2i"}, "there are 0 images"),
        ({"task": "t2i", "images": [uri(png(noise(8, 8)))]}, "x2i takes 1 to 3"),
        ({"task": "x2i", "images": [uri(png(noise(8, 8)))] * 4}, "there are 4 images"),
        ({"task": "x2i", "images": ["https://evil.test/a.png"]}, "give pictures as data:image"),
        ({"task": "story"}, "task is 'story'"),
    ],
)
def test_wrong_pictures_to_edit_are_refused(emu35, body, words):
    status, answer = post(emu35[1], "images/generations", {"prompt": "a", **body})
    assert status == 400 and words in answer["error"]["message"]


def test_a_layout_without_tasks_or_videos_says_so(emu3, emu35):
    status, answer = post(emu3[1], "images/generations", {"prompt": "a", "task": "t2i"})
    assert status == 400 and "tasks are Emu3.5's" in answer["error"]["message"]
    status, answer = post(emu35[1], "videos/generations", {"prompt": "a"})
    assert status == 400 and "has no video" in answer["error"]["message"]


def mp4(tmp_path, frames, fps=8.0):
    write_clip(Clip(frames, fps), tmp_path / "clip.mp4", {})
    return (tmp_path / "clip.mp4").read_bytes()


def moving(count, side=32):
    """A bright bar that moves."""
    frames = np.zeros((count, side, side, 3), dtype=np.uint8)
    for number in range(count):
        frames[number, :, (2 * number) % side :][:, :6] = 230
    return frames


def test_a_video_is_drawn_frame_by_frame_and_kept_with_its_settings(emu3, tmp_path):
    studio, url, _ = emu3
    asked = {"prompt": "waves", "seconds": 1, "fps": 8, "size": "32x16", "seed": 4, "partial_images": 3}
    *before, whole = [event for event in events(url, "videos/generations", asked) if "type" in event]
    assert whole["type"] == "video_generation.completed" and whole["size"] == "32x16"
    assert all(event["type"] == "video_generation.partial_image" and 0 < event["rows"] <= 4 for event in before)
    path = tmp_path / "waves.mp4"
    path.write_bytes(base64.b64decode(whole["b64_json"]))
    assert read_settings(path).items() >= {"prompt": "waves", "seconds": 1.0, "fps": 8.0, "seed": 4}.items()
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = studio.video("waves", Header(2, 4, 8.0, 1.0), sampling=SamplingParams(seed=4)).frames
    assert len(frames) == len(expected) == 8
    assert np.abs(np.stack(frames).astype(float) - expected).mean() < 12, "H.264 of the studio's video"
    with urllib.request.urlopen(f"{url}/gallery/{whole['name']}", timeout=120) as kept:
        assert kept.headers["Content-Type"] == "video/mp4" and kept.read() == path.read_bytes()


def run_job(studio, model, **asked):
    """The codes of a video, its parts generated by the studio."""
    job = VideoJob(model, VideosRequest(**asked))
    while (request := job.next_request()) is not None:
        (tokens,) = studio.generate([request])
        for token in tokens[len(request.prompt) :].tolist():
            job.append(token)
        job.end_part()
    assert job.rows == job.total_rows
    return job.codes


def test_a_clip_is_continued_as_by_the_studio(emu3, tmp_path):
    studio, url, model = emu3
    data = mp4(tmp_path, moving(24))
    asked = {"video": uri(data, "video/mp4"), "seconds": 2.0, "fps": 8.0, "context_seconds": 1.0, "seed": 2}
    codes = run_job(studio, model, **asked)
    clip = model.uploads.clip(data, 32 * 32, 8, 8.0, 1.0, "video")
    assert clip.shape == (8, 32, 32, 3)
    later = studio.future(Clip(clip, 8.0), 2.0, window_s=1.0, sampling=SamplingParams(seed=2))
    assert np.array_equal(studio.vision.decode(codes), later.frames)
    answer = ask(url, "videos/generations", asked)
    with av.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8 + 16


def test_a_picture_begins_to_move(emu3):
    studio, _, model = emu3
    still = moving(1)[0]
    codes = run_job(studio, model, image=uri(png(still)), seconds=1.0, seed=3)
    assert np.array_equal(codes[0], studio.vision.encode_image(still)) and codes.shape == (2, 4, 4)


def test_hostile_clips_and_numbers_are_refused(emu3, tmp_path):
    url, data = emu3[1], mp4(tmp_path, moving(24))
    for body, words in (
        ({"video": uri(data[:200], "video/mp4")}, "video cannot be read"),
        ({"video": uri(png(moving(1)[0]), "video/mp4")}, "video"),
        ({"video": uri(data, "image/png")}, "is no data:video"),
        ({"video": "file:///etc/passwd"}, "give clips as data:video"),
        ({"image": uri(b"<svg/>", "image/svg+xml")}, "not_an_image"),
        ({"image": uri(png(moving(1)[0])), "video": uri(data, "video/mp4")}, "send one of them"),
        ({"seconds": 0.1}, "less than one latent frame"),
        ({"seconds": 10**9}, "seconds is"),
        ({"fps": -1}, "fps is -1"),
        ({"context_seconds": 0}, "context_seconds is 0"),
        ({"seconds": 600}, "start it with more"),
        ({"second": 1}, "did you mean 'seconds'"),
    ):
        status, answer = post(url, "videos/generations", {"prompt": "a", **body})
        assert status == 400 and words in answer["error"]["message"], (body.keys(), answer)


def test_a_long_clip_is_refused_and_not_cut(emu3, tmp_path):
    data = mp4(tmp_path, np.zeros((62, 16, 16, 3), dtype=np.uint8), fps=1.0)
    status, answer = post(emu3[1], "videos/generations", {"video": uri(data, "video/mp4")})
    assert status == 400 and "longer than 60 s" in answer["error"]["message"]


def said(url, content, **asked):
    messages = content if isinstance(content, list) and "role" in content[0] else [{"role": "user", "content": content}]
    return ask(url, "chat/completions", {"messages": messages, "seed": 1, "max_tokens": 1, **asked})


def test_a_clip_is_asked_about(emu3, emu35, tmp_path):
    clip = {"type": "video_url", "video_url": {"url": uri(mp4(tmp_path, moving(24)), "video/mp4")}}
    words = {"type": "text", "text": "What moves?"}
    alone, with_clip = (said(emu3[1], [*parts, words])["usage"]["prompt_tokens"] for parts in ([], [clip]))
    # The last 2 s: 16 frames, 4 latent frames of 4 x 4 codes; BOI, "4*4 8fps 2s", IMG, EOI.
    assert with_clip - alone == 4 * (4 * 5 + 1) + 11 + 3
    alone, with_clip = (said(emu35[1], [*parts, words])["usage"]["prompt_tokens"] for parts in ([], [clip]))
    # Of 3 s three frames, a second apart, are pictures of 4 x 4 codes.
    assert with_clip - alone == 3 * (4 * 5 - 1 + 3 + 3)


def test_a_picture_without_words_gets_a_caption(emu3):
    shown = [{"type": "image_url", "image_url": {"url": uri(png(noise(32, 32)))}}]
    prompt = said(emu3[1], shown)["usage"]["prompt_tokens"]
    assert prompt == 1 + (4 * 5 + 1) + 3 + 3, "BOS and the picture, as in documents whose caption follows"
    assert said(emu3[1], shown, modalities=["text", "image"])["usage"]["prompt_tokens"] > prompt


def storyteller():
    """Writes `A`, a picture of one code, `A`, a picture, ... without end."""
    vision = frames_tokenizer()
    vocab = Vocabulary("bytes", vision.codes, vision.layout)
    one, star, a = vocab.tokenizer.encode("1*A")
    follows = {vocab.bss: [a], a: [vocab.boi], vocab.boi: [one], one: [star, vocab.img], star: [one]}
    follows |= {vocab.eoi: [a], vocab.img: [vocab.vision_start + 5]}
    return chained_studio(follows, vision)


def test_a_story_of_ten_steps_grows_while_it_is_drawn(tmp_path, monkeypatch):
    gate = gated_steps(monkeypatch)
    studio = storyteller()
    asked = {"task": "story", "messages": [{"role": "user", "content": "A"}], "temperature": 0, "max_pictures": 10}
    with served(studio, tmp_path, area=16 * 16, context_tokens=400) as (url, _), gate:
        gate.allow(12)
        stream = events(url, "chat/completions", {**asked, "previews": True})
        first = next(event for event in stream if "![picture]" in str(event))
        gate.open()
        rest = list(stream)
    contents = [event["choices"][0]["delta"].get("content", "") for event in [first, *rest] if event.get("choices")]
    assert sum(content.count("![picture]") for content in contents) == 10
    assert max(content.count("![picture]") for content in contents) < 10, "not all at the end"
    assert next(event for event in reversed(rest) if event.get("choices"))["choices"][0]["finish_reason"] == "stop"


def test_a_picture_that_is_being_drawn_is_shown(tmp_path, monkeypatch):
    gate = gated_steps(monkeypatch)
    studio = random_studio(frames_tokenizer())
    given = {"type": "image_url", "image_url": {"url": uri(png(noise(16, 16)))}}
    messages = [{"role": "user", "content": [given]}, {"role": "assistant", "content": "turn left"}]
    # A movement is followed by a picture, so no word comes first.
    asked = {
        "task": "explore",
        "size": "16x16",
        "continue_final_message": True,
        "max_pictures": 1,
        "messages": messages,
    }
    with served(studio, tmp_path, area=16 * 16) as (url, _), gate:
        gate.allow(4 + 5 * 2)
        stream = events(url, "chat/completions", {**asked, "previews": True})
        shown = next(event for event in stream if "preview" in event)
        gate.open()
        content = "".join(event["choices"][0]["delta"].get("content", "") for event in stream if event.get("choices"))
    assert shown["total_rows"] == 4 and 1 <= shown["rows"] < 4
    picture = pixels(shown["preview"].partition(",")[2])
    assert picture.shape == (16, 16, 3) and (picture[4 * shown["rows"] :] == 128).all()
    assert content.count("![picture]") == 1


def test_each_movement_goes_on_with_the_answer_as_it_was_learned(emu35):
    """What the endpoint gives the engine is the beginning of the very document that walks are imported as."""
    studio, _, model = emu35
    start, seen = noise(16, 16), 255 - noise(16, 16)
    question = [{"type": "text", "text": "A street."}, {"type": "image_url", "image_url": {"url": uri(png(start))}}]
    walked = f"turn left\n\n![picture]({uri(png(seen))})\n\nmove back 2"
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": walked}]
    chat = ChatRequest(messages=messages, task="explore", continue_final_message=True, guidance=2.0)
    request = engine_request(model, chat)
    first, second = (Visual(studio.vision.encode_image(picture)) for picture in (start, seen))
    answer = ["turn left", second, "move back 2", first]
    tokens = task_document(studio.vocab, "explore", "A street.", answer, [first]).tokens
    prompt, unconditional = request.prompts
    assert prompt.tolist() == tokens[: len(prompt)].tolist() and prompt[-1] == studio.vocab.boi
    assert unconditional[-20:].tolist() == prompt[-20:].tolist(), "both branches have what was walked"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"continue_final_message": True}, "the user's and the assistant's"),
        ({"max_pictures": 0}, "max_pictures is 0"),
        ({"size": "huge", "task": "story"}, "WIDTHxHEIGHT"),
        ({"size": "999x999", "task": "story"}, "at most 256 pixels"),
        ({"task": "stroy"}, "did you mean 'story'"),
    ],
)
def test_wrong_wishes_in_tasks_are_answered_by_what_is_allowed(emu35, body, words):
    status, answer = post(emu35[1], "chat/completions", {"messages": [{"role": "user", "content": "a"}], **body})
    assert status == 400 and words in answer["error"]["message"]


def trained(steps, learned=None, **given):
    """A training of so many steps."""
    settled = {"tokens": 0, "tokenizer": "", "objective": "next_token", "settings": {}, "is_begun": False}
    settled |= {"drew_unprompted": True, "learned": learned and sorted(learned)}
    return Training(steps=steps, **settled | given)


def settings_of(url):
    with urllib.request.urlopen(f"{url}/settings", timeout=120) as answer:
        return json.load(answer)


def test_the_page_is_told_what_there_is_and_what_is_learned(emu3, emu35):
    assert list(settings_of(emu3[1])["modes"]) == ["draw", "video", "chat"]
    found = settings_of(emu35[1])
    assert list(found["modes"]) == ["draw", "edit", "story", "world", "chat"]
    assert found["training"] is None and found["modes"]["edit"] == {"learned": None}
    layout = emu35[0].vocab.layout
    known = modes(layout, trained(60, {"t2i", "howto"}))
    assert known["draw"] == {"learned": True, "task": "t2i"} and known["edit"] == {"learned": False}
    assert known["story"] == {"learned": True, "tasks": {"story": False, "howto": True, "vla": False}}
    assert modes(layout, trained(60, {"image"}))["draw"] == {"learned": True, "task": None}


def test_training_is_few_until_it_is_not():
    assert training_facts(trained(60))["few"] and not training_facts(trained(5000))["few"]
    assert not training_facts(trained(60, is_begun=True))["few"], "a stage after another is short"


def test_a_model_of_pages_has_room_for_ten_steps(emu35):
    studio, config = emu35[0], ServeConfig(area=16 * 16)
    usual = config.capacity(studio, trained(60, {"t2i"}))
    pages = config.capacity(studio, trained(60, {"story"}))
    assert usual == config.capacity(studio) and pages - usual == 11 * config.picture_tokens(studio)
    short = dataclasses.replace(studio, context=usual + 5)
    assert config.capacity(short, trained(60, {"story"})) == usual + 5


def test_a_checkpoint_knows_what_its_documents_teach(tmp_path):
    found = Training.of(toy_run(tmp_path) / "checkpoints/step-000001")
    assert (found.steps, found.tokens, found.learned) == (1, 25, ["image"])


def small_run(folder, rows, vocab, fingerprint):
    tokens = folder / "tokens" / fingerprint[:12]
    tokens.mkdir(parents=True)
    write_shard(tokens / "unit-000000.parquet", rows, vocab, fingerprint)
    return folder


def test_tasks_are_found_in_conversations_and_kept_from_run_to_run(tmp_path):
    vision = frames_tokenizer()
    vocab = Vocabulary("bytes", vision.codes, vision.layout)
    picture = documents.Visual(np.arange(4).reshape(2, 2))
    numbers = itertools.count()

    def row(tokens, answers=None):
        name = str(next(numbers))
        return document_row(
            vocab, tokens, sample_id=name, item_id=name, fingerprint=vision.fingerprint, answers=answers
        )

    tasks = [documents.task_document(vocab, task, "a", ["b", picture]) for task in ("story", "explore")]
    talk = documents.chat_document(vocab, [documents.Turn(["for story task. a"], ["b"])])
    first = small_run(tmp_path / "a", [row(d.tokens, d.answers) for d in tasks], vocab, vision.fingerprint)
    rows = [row(talk.tokens, talk.answers), row(documents.text_document(vocab, "words"))]
    second = small_run(tmp_path / "b", rows, vocab, vision.fingerprint)
    config = TrainConfig(
        model=ModelConfig(hidden=16, layers=1, heads=2, kv_heads=1, mlp=24),
        data=DataConfig(context=128, batch_rows=1, heldout=0.0),
        steps=1, precision="float32", device="cpu",
    )  # fmt: skip

    def learned(run):
        return set(Training.of(run).learned)

    made = train(config, [first], tmp_path / "run-a", log_fn=lambda _: None)
    assert learned(made) == {"story", "explore"}
    later = dataclasses.replace(config, init=str(tmp_path / "run-a"))
    assert learned(train(later, [second], tmp_path / "run-b", log_fn=lambda _: None)) == {
        "story", "explore", "chat", "text",
    }  # fmt: skip
    assert Training.of(tmp_path / "run-b/checkpoints/step-000001").is_begun


def test_of_weights_from_elsewhere_nobody_knows(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert Training.of(tmp_path) is None
