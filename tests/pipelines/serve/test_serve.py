"""`reelmill serve` through the real `openai` client and plain HTTP."""

import base64
import contextlib
import io
import json
import struct
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Queue

import numpy as np
import openai
import pytest
from PIL import Image, ImageSequence
from tiny_server import VOCAB, chained_studio, gated_steps, random_studio, served
from web_server import until

from reelmill.eval.generation import Engine, Request, SamplingParams, engine_thread
from reelmill.eval.generation.decoding import Decoding
from reelmill.eval.generation.media_files import read_settings
from reelmill.eval.generation.presets import PRESETS
from reelmill.eval.generation.row_decoding import ByRows
from reelmill.pipelines.serve.chat_request import ChatRequest
from reelmill.pipelines.serve.images_endpoint import ImageBatch, ImagesRequest


@pytest.fixture(scope="module")
def studio():
    return random_studio()


@pytest.fixture(scope="module")
def site(studio, tmp_path_factory):
    with served(studio, tmp_path_factory.mktemp("drawn")) as (url, model):
        yield url, model


@pytest.fixture(scope="module")
def client(site):
    return client_of(site[0])


HTTP = openai.DefaultHttpxClient(limits=openai.DEFAULT_CONNECTION_LIMITS)


def client_of(url, key="none"):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120, http_client=HTTP)


def picture(b64):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))).convert("RGB"))


def get(url):
    with urllib.request.urlopen(url, timeout=120) as answer:
        return json.load(answer)


def uri(data, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def png(size):
    stream = io.BytesIO()
    Image.new("RGB", size, "red").save(stream, "PNG")
    return stream.getvalue()


def bomb():
    """A small PNG whose header says 30,000 x 30,000."""
    data = png((64, 64))
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def test_pictures_are_those_of_the_studio_with_their_settings_inside(site, client, studio, tmp_path):
    asked = {"seed": 7, "guidance": 2.0, "negative_prompt": "fog"}
    answer = client.images.generate(model="tiny", prompt="ein Böot", n=2, size="40x16", extra_body=asked)
    expected = studio.images(["ein Böot"] * 2, 2, 5, sampling=SamplingParams(
        guidance=2.0, negative="fog", seed=7))  # fmt: skip
    assert [picture(each.b64_json).tolist() for each in answer.data] == [each.tolist() for each in expected]
    assert answer.size == "40x16" and answer.output_format == "png"
    assert answer.usage.output_tokens == 2 * (2 * 6 + 3)
    path = tmp_path / "a.png"
    path.write_bytes(base64.b64decode(answer.data[1].b64_json))
    wanted = {"prompt": "ein Böot", "stream": 1, "seed": 7, "guidance": 2.0, "negative": "fog", "decode": "plain"}
    assert read_settings(path).items() >= {**wanted, "checkpoint": "runs/tiny"}.items()


@pytest.fixture
def gate(monkeypatch):
    return gated_steps(monkeypatch)


def test_a_stream_shows_rows_as_they_are_drawn(studio, tmp_path, gate):
    asked = {"model": "tiny", "prompt": "a", "size": "64x64", "extra_body": {"seed": 1}}
    with served(studio, tmp_path) as (url, _), gate:
        client = client_of(url)
        gate.allow(9 * 5)
        stream = client.images.generate(**asked, stream=True, partial_images=3)
        first = next(stream)  # it comes while there are rows to draw
        gate.open()
        *partial, whole = [first, *stream]
        assert whole.type == "image_generation.completed" and whole.usage.output_tokens == 8 * 9 + 3
        assert whole.b64_json == client.images.generate(**asked).data[0].b64_json
    final = picture(whole.b64_json)
    assert 1 <= len(partial) <= 3
    for number, event in enumerate(partial):
        shown = picture(event.b64_json)
        assert event.type == "image_generation.partial_image" and event.partial_image_index == number
        assert shown.shape == final.shape and 0 < event.rows < 8
        assert (shown[event.rows * 8 :] == 128).all(), "what has no row yet is grey"
        assert not (shown[: event.rows * 8] == 128).all()


def test_a_stream_shows_a_picture_that_is_drawn_in_another_order(studio, tmp_path, gate):
    """Rows side by side: the first partial picture comes while the picture is drawn, and has gray in it."""
    by_rows = replace(studio, decoding=Decoding("rows", 1, ByRows(1)))
    asked = {"model": "tiny", "prompt": "a", "size": "64x64", "extra_body": {"seed": 1}}
    with served(by_rows, tmp_path) as (url, _), gate:
        client = client_of(url)
        gate.allow(9)  # of 8 + 7 passes
        stream = client.images.generate(**asked, stream=True, partial_images=3)
        first = next(stream)
        gate.open()
        *partial, whole = [first, *stream]
        assert whole.type == "image_generation.completed"
        assert whole.b64_json == client.images.generate(**asked).data[0].b64_json
    assert 1 <= len(partial) <= 3
    assert [event.rows for event in partial] == sorted({event.rows for event in partial})
    (tmp_path / "whole.png").write_bytes(base64.b64decode(whole.b64_json))
    assert read_settings(tmp_path / "whole.png").items() >= {"decode": "rows", "lag": 1}.items()
    shown, final = picture(first.b64_json), picture(whole.b64_json)
    assert shown.shape == final.shape and 0 < first.rows < 8
    assert (shown[-8:, -8:] == 128).all()
    assert not (shown[:8, :8] == 128).all()


def test_a_partial_picture_and_its_count_of_rows_are_of_the_same_tokens(site, studio):
    """After every single token: also after the last code of a row, before the token that ends it."""
    batch = ImageBatch(site[1], ImagesRequest(prompt="a", size="24x40", partial_images=4, seed=1))
    (tokens,) = studio.generate(batch.requests)
    due = []
    for token in tokens[len(batch.requests[0].prompt) :].tolist():
        batch.append(0, token)
        if batch.is_partial_due(0):
            due.append(batch.rows[0])
        if 0 < batch.rows[0] < batch.h:
            rows, shown = batch.partial(0)
            seen = picture(shown)
            assert (seen[rows * 8 :] == 128).all() and not (seen[(rows - 1) * 8 : rows * 8] == 128).all()
    assert due == [1, 2, 3, 4]


def test_a_preset_is_how_it_is_drawn_where_nothing_else_is_asked_for(studio, tmp_path):
    emu3 = PRESETS["emu3"]
    with served(studio, tmp_path, preset=emu3) as (url, _):
        answer = client_of(url).images.generate(model="tiny", prompt="a", size="16x16", extra_body={"seed": 3})
        (entry,) = get(f"{url}/gallery")["data"]
        assert (
            get(f"{url}/settings")["defaults"].items()
            >= {"guidance": 3.0, "negative_prompt": emu3.sampling.negative}.items()
        )
    how = replace(emu3.sampling, seed=3)
    (expected,) = studio.images(["a" + emu3.suffix], 2, 2, sampling=how)
    assert np.array_equal(picture(answer.data[0].b64_json), expected)
    assert entry["prompt"] == "a" and entry["guidance"] == 3.0


def test_sizes_are_pixels_ratios_or_the_usual_one(client):
    for size, expected in (("auto", (64, 64)), ("1x100", (8, 96)), ("2:1", (88, 48)), ("64x64", (64, 64))):
        answer = client.images.generate(model="tiny", prompt="", size=size)
        assert picture(answer.data[0].b64_json).shape[1::-1] == expected, size
        assert answer.size == f"{expected[0]}x{expected[1]}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "4096x4096"}, "at most 4,096 pixels"),
        ({"size": "99999x99999"}, "at most 4,096 pixels"),
        ({"size": "large"}, "WIDTHxHEIGHT"),
        ({"size": "1:100000"}, "less than one code"),
        ({"size": "0x8"}, "WIDTHxHEIGHT"),
        ({"n": 11}, "n is 11; it must be 1 to 10"),
        ({"n": 0}, "n is 0"),
        ({"n": 2.5}, "n is 2.5"),
        ({"prompt": ["a"]}, "prompt is"),
        ({"prompt": "x" * 32_001}, "32,001 characters"),
        ({"prompt": "x" * 5_000}, "start it with more"),
        ({"response_format": "url"}, "b64_json"),
        ({"extra_body": {"guidence": 2}}, "did you mean 'guidance'"),
        ({"extra_body": {"guidance": -1}}, "guidance is -1"),
        ({"extra_body": {"guidance": 10**400}}, "too large a number"),
        ({"extra_body": {"top_p": 0}}, "top_p is 0"),
        ({"extra_body": {"seed": -1}}, "seed is -1"),
        ({"stream": True, "partial_images": 1000}, "partial_images is 1000"),
    ],
)
def test_wrong_wishes_are_answered_by_what_is_allowed(client, changes, words):
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**{"model": "tiny", "prompt": "a", **changes})
    assert words in refused.value.body["message"]
    assert refused.value.body["type"] == "invalid_request_error"


def post(url, body):
    """(status, the JSON) of a body that no client of OpenAI's would send."""
    wanted = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(wanted, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


STRANGE = (
    None,
    True,
    -1,
    10**19,
    0.5,
    "",
    "x",
    "\ud800",
    "9" * 400,
    "9" * 400 + ":1",
    [],
    [[]],
    [{}],
    {},
    {"a": ["\udfff"]},
)


@pytest.mark.parametrize(
    ("path", "usual"),
    [
        ("images/generations", {"prompt": "a", "size": "8x8"}),
        ("chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}),
    ],
)
def test_no_value_of_any_field_makes_the_server_fail(site, path, usual):
    """Whatever a field holds, the answer is a picture or text, or says which field is wrong."""
    fields = {"images/generations": ImagesRequest, "chat/completions": ChatRequest}[path].__dataclass_fields__
    for field in [*fields, "\ud800"]:
        for value in STRANGE:
            if field != "stream" or value is not True:  # a stream is no JSON
                status, answer = post(f"{site[0]}/v1/{path}", {**usual, field: value})
                assert status in (200, 400, 404), (field, value, answer)


def test_no_value_in_a_message_makes_the_server_fail(site):
    message = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    for value in STRANGE:
        for wrong in (
            value,
            {**message, "role": value},
            {**message, "content": value},
            {**message, "content": [value]},
            {**message, "content": [{"type": value, "text": "a"}]},
            {**message, "content": [{"type": "text", "text": value}]},
            {**message, "content": [{"type": "image_url", "image_url": value}]},
            {**message, "content": [{"type": "image_url", "image_url": {"url": value}}]},
        ):
            status, answer = post(f"{site[0]}/v1/chat/completions", {"messages": [wrong], "max_tokens": 1})
            assert status in (200, 400), (wrong, answer)
    status, answer = post(f"{site[0]}/v1/chat/completions", {"messages": [{"role": "user", "content": "\ud800"}]})
    assert (status, answer["error"]["param"]) == (400, "messages[0].content")


def test_another_model_is_not_here(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "reelmill"
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
        client.images.generate(model="gpt-image-1", prompt="a")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "a"}])


def talk(client, messages, **asked):
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return client.chat.completions.create(model="tiny", messages=messages, **{"seed": 1, **asked})


def test_words_come_whole_or_piece_by_piece(client):
    answer = talk(client, "hello", max_tokens=60)
    again = talk(client, "hello", max_tokens=60)
    choice = answer.choices[0]
    assert choice.message.content and choice.message.content == again.choices[0].message.content
    assert talk(client, "hello", max_tokens=60, seed=2).choices[0].message.content != choice.message.content
    chunks = list(talk(client, "hello", max_tokens=60, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces).rstrip() == choice.message.content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].id == chunks[-1].id
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason
    assert chunks[-1].usage == answer.usage and answer.usage.completion_tokens <= 60


def test_a_conversation_has_turns_pictures_and_bounds(client):
    base = talk(client, "What is it?", max_tokens=1).usage.prompt_tokens
    shown = [{"type": "image_url", "image_url": {"url": uri(png((100, 50)))}}, {"type": "text", "text": "What is it?"}]
    with_picture = talk(client, [{"role": "user", "content": shown}], max_tokens=1).usage.prompt_tokens
    # About 4,096 pixels, twice as wide as high: 6 rows of 11 codes, and BOI, "6*11", IMG, EOF, EOI.
    assert with_picture - base == 6 * 12 + 8
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": f"This:\n\n![picture]({uri(png((64, 64)))})\n\n"},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": " why?"}]},
    ]
    longer = talk(client, turns, max_tokens=1).usage.prompt_tokens
    prompt = "Be brief. USER: What is it?. ASSISTANT: This: USER: And why?. ASSISTANT:"
    assert longer == 1 + len(prompt) + 8 * 9 + 7
    with pytest.raises(openai.BadRequestError, match=r"is [\d,]+ tokens long, and a row .* larger --context-tokens"):
        talk(client, [*turns[:3], {"role": "user", "content": "why? " * 10_000}])


BAD_PICTURES = {
    "https://evil.test/a.png": "give pictures as data:image",
    "file:///etc/passwd": "give pictures as data:image",
    "data:text/html;base64,AAAA": "is no data:image",
    "data:image/png;base64,???": "is no data:image",
    "data:image/png;base64,AAA": "no base64",
    uri(b"<svg/>", "svg+xml"): "not_an_image",
    uri(png((64, 64))[:60]): "corrupt",
    uri(bomb()): "too_many_pixels",
}


@pytest.mark.parametrize("address", BAD_PICTURES, ids=[key[:24] for key in BAD_PICTURES])
def test_hostile_pictures_are_refused_and_nothing_is_fetched(client, address):
    content = [{"type": "image_url", "image_url": {"url": address}}]
    with pytest.raises(openai.BadRequestError, match=BAD_PICTURES[address]):
        talk(client, [{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("messages", "asked", "words"),
    [
        ([], {}, "0 messages"),
        ([{"role": "user", "content": "a"}] * 201, {}, "201 messages"),
        ([{"role": "tool", "content": "a"}], {}, "the role 'tool'"),
        ([{"role": "user", "content": None}], {}, "content must be text"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], {}, "'input_audio'"),
        ([{"role": "assistant", "content": "a"}], {}, "must be the user's"),
        ([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], {}, "must come first"),
        ("a", {"max_tokens": 100_000}, "start it with more"),
        ("a", {"max_tokens": 0}, "max_completion_tokens is 0"),
        ("a", {"temperature": -1}, "temperature is -1"),
        ("a", {"n": 2}, "n is 2"),
        ("a", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "unknown key 'tools'"),
        ("a", {"extra_body": {"modalities": ["audio"]}}, "audio"),
    ],
)
def test_wrong_messages_are_answered_by_what_is_allowed(client, messages, asked, words):
    with pytest.raises(openai.BadRequestError) as refused:
        talk(client, messages, **asked)
    assert words in refused.value.body["message"]


def test_a_model_that_draws_while_it_talks(tmp_path):
    one, star = VOCAB.tokenizer.encode("1*")
    colon, a, b = VOCAB.tokenizer.encode(":Ab")
    follows = {colon: [a], a: [VOCAB.boi], VOCAB.boi: [one], one: [star, VOCAB.img], star: [one], VOCAB.eoi: [b]}
    follows |= {b: [VOCAB.eos], VOCAB.img: [VOCAB.vision_start + 5]}
    studio = chained_studio(follows)
    with served(studio, tmp_path) as (url, _):
        client = client_of(url)
        asked = {"temperature": 0, "extra_body": {"modalities": ["text", "image"]}}
        content = talk(client, "draw", **asked).choices[0].message.content
        before, _, rest = content.partition("![picture](data:image/png;base64,")
        data, _, after = rest.partition(")")
        assert (before, after) == ("A\n\n", "\n\nb")
        assert np.array_equal(picture(data), studio.vision.decode_image(np.array([[5]])))
        streamed = [chunk.choices[0].delta.content for chunk in talk(client, "draw", stream=True, **asked)]
        assert "".join(filter(None, streamed)) == content
        turns = [{"role": "user", "content": "draw"}, {"role": "assistant", "content": content}]
        again = talk(client, [*turns, {"role": "user", "content": "again"}], **asked)
        assert again.choices[0].message.content == content
        guided = {"modalities": ["image"], "guidance": 2.0}
        assert talk(client, "draw", temperature=0, extra_body=guided).choices[0].message.content == content
        words = talk(client, "draw", temperature=0, max_tokens=5)
        assert "picture" not in words.choices[0].message.content


def test_a_video_of_the_model_is_a_picture_that_moves(tmp_path):
    colon, one, star, blank, eight, f, p, s = VOCAB.tokenizer.encode(":1* 8fps")
    follows = {colon: [VOCAB.boi], VOCAB.boi: [one], one: [star, blank], star: [one], blank: [eight], eight: [f, s]}
    follows |= {f: [p], p: [s], s: [blank, VOCAB.img], VOCAB.eoi: [VOCAB.eos]}
    with served(chained_studio(follows), tmp_path) as (url, _):
        asked = {"temperature": 0, "extra_body": {"modalities": ["image"]}}
        content = talk(client_of(url), "film", **asked).choices[0].message.content
    data = content.removeprefix("![picture](data:image/webp;base64,").removesuffix(")")
    with Image.open(io.BytesIO(base64.b64decode(data))) as video:
        frames = ImageSequence.Iterator(video)
        # Frames that are alike are one, shown longer.
        assert video.size == (8, 8) and video.n_frames > 1
        assert sum(frame.info["duration"] for frame in frames if frame.load()) == 8000, "8 frames/s for 8 s"


def test_fifty_at_once_are_all_drawn_as_each_would_be_alone(site, client, studio):
    def one(number):
        answer = client.images.generate(model="tiny", prompt=f"{number}", size="24x16", extra_body={"seed": number})
        return picture(answer.data[0].b64_json)

    with ThreadPoolExecutor(50) as pool:
        drawn = list(pool.map(one, range(50)))
    for number in (0, 17, 49):
        (alone,) = studio.images([f"{number}"], 2, 3, sampling=SamplingParams(seed=number))
        assert np.array_equal(drawn[number], alone)
    assert site[1].engine.status() == {"waiting": 0, "running": 0, "tokens_per_s": 0.0}


def test_a_full_queue_says_when_to_come_again_and_a_stream_where_it_stands(studio, tmp_path, gate):
    with served(studio, tmp_path, rows=1, queue=2) as (url, _), ThreadPoolExecutor(3) as pool, gate:
        client = client_of(url)
        jobs = [pool.submit(client.images.generate, model="tiny", prompt="a", size="16x16") for _ in range(3)]
        until(lambda: get(f"{url}/health").items() >= {"running": 1, "waiting": 2}.items())
        with pytest.raises(openai.RateLimitError, match="2 requests are waiting") as full:
            client.images.generate(model="tiny", prompt="a", stream=True)
        assert int(full.value.response.headers["Retry-After"]) >= 1
        gate.open()
        assert all(len(job.result(120).data) == 1 for job in jobs)
        assert client.images.generate(model="tiny", prompt="a", size="16x16").data


def test_what_free_rows_are_about_to_take_does_not_count_as_waiting(studio):
    request, drawn = Request(prompt=[VOCAB.bos], max_new_tokens=1, stop_id=-1), Queue()
    engine = engine_thread.EngineThread(studio.model, VOCAB, rows=2, capacity=4, queue=1)
    with contextlib.closing(engine):
        for _ in range(20):  # the engine's thread seldom wakes between two of these
            for _ in range(3):
                engine.submit([request], [drawn.put])
            assert all(drawn.get(timeout=120).is_last for _ in range(3))


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_is_given_up(studio, tmp_path, gate, stream):
    with served(studio, tmp_path, rows=1) as (url, _), gate:
        body = json.dumps({"prompt": "a", "stream": stream, "n": 3}).encode()
        wanted = urllib.request.Request(f"{url}/v1/images/generations", body, {"Content-Type": "application/json"})
        with contextlib.suppress(TimeoutError), urllib.request.urlopen(wanted, timeout=0.5) as answer:
            answer.readline()
        gate.open()
        until(lambda: not any(get(f"{url}/health")[name] for name in ("waiting", "running")))
        assert get(f"{url}/gallery")["data"] == []


def test_what_fails_while_drawing_ends_those_at_work_only(studio, tmp_path, monkeypatch, caplog):
    step, left = Engine.step, [1]

    def failing(self):
        if left and left.pop():
            raise MemoryError("no room on the moon")
        return step(self)

    monkeypatch.setattr(Engine, "step", failing)
    with served(studio, tmp_path) as (url, _):
        client = client_of(url)
        with pytest.raises(openai.APIError, match="no room on the moon"):
            list(client.images.generate(model="tiny", prompt="a", stream=True))
        assert "no room on the moon" in caplog.text
        left.append(1)
        with pytest.raises(openai.InternalServerError, match="no room on the moon"):
            client.images.generate(model="tiny", prompt="a")
        assert client.images.generate(model="tiny", prompt="a", size="16x16").data


def test_the_end_of_the_server_ends_its_streams(studio, tmp_path, gate):
    with served(studio, tmp_path, rows=1) as (url, model), ThreadPoolExecutor(1) as pool, gate:
        client = client_of(url)
        stream = pool.submit(lambda: list(client.images.generate(model="tiny", prompt="a", stream=True)))
        until(lambda: get(f"{url}/health")["running"])
        model.engine.stop()
        gate.open()
        with pytest.raises(openai.APIError, match="the server is stopping"):
            stream.result(120)
        with pytest.raises(openai.InternalServerError, match="the server is stopping"):
            client.images.generate(model="tiny", prompt="a")


def test_the_gallery_keeps_the_newest(studio, tmp_path):
    with served(studio, tmp_path, gallery=2) as (url, _):
        client = client_of(url)
        for prompt in ("first", "second", "third"):
            last = client.images.generate(model="tiny", prompt=prompt, size="16x16")
        entries = get(f"{url}/gallery")["data"]
        assert [entry["prompt"] for entry in entries] == ["third", "second"]
        assert len(list(tmp_path.rglob("*.png"))) == 2
        with urllib.request.urlopen(f"{url}/gallery/{entries[0]['name']}", timeout=120) as answer:
            assert answer.read() == base64.b64decode(last.data[0].b64_json)
        for name in ("000001.png", "..%2F..%2Fx", "../serve.py", "none", "%00"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(f"{url}/gallery/{name}")
    with served(studio, tmp_path / "none", gallery=0) as (url, _):
        client = client_of(url)
        assert client.images.generate(model="tiny", prompt="a", size="16x16").data
        assert get(f"{url}/gallery")["data"] == [] and not (tmp_path / "none").exists()


def test_the_token_is_the_key_of_the_client(studio, tmp_path):
    token = "0123456789abcdef"
    with served(studio, tmp_path, token=token) as (url, _):
        assert client_of(url, token).models.list().data[0].id == "tiny"
        with pytest.raises(openai.AuthenticationError):
            client_of(url).models.list()
