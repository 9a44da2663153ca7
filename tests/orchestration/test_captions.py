"""Captions side by side: an endpoint that answers, fails, stalls and talks nonsense; what is done and what is left."""

import io
import json
import shutil
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import duckdb
import pytest
from chat_server import ChatServer, completion, pictures, words
from command_line import CommandLine
from dumps import light_recipe, rows, still_dump
from rich.console import Console

from reelmill.errors import ConfigError, MachineError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.caption_export import export_pairs
from reelmill.pipelines.curate.captions import run_captions
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.verify import verify

GOOD = "A smooth patchwork of colours drifts slowly to the left."
QUICK = (
    "engine.executor=inline",
    "captions.endpoint.backoff_s=0.01",
    "captions.endpoint.tries=3",
    "captions.endpoint.request_s=20",
    "captions.frames.short_side=64",
)
KEPT = 7  # videos and images that the run keeps
STILLS = 5


@pytest.fixture(scope="module")
def made(small_run, tmp_path_factory):
    """A folder of a dump, a recipe, and the run of it: captions from sidecars and facts, tokens."""
    return small_run(tmp_path_factory.mktemp("captions")).parent


@pytest.fixture
def stills(tmp_path):
    """A dump of `STILLS` different pictures and two texts, and a recipe."""
    still_dump(tmp_path / "dump", STILLS)
    light_recipe(tmp_path / "light.toml")
    return tmp_path


@pytest.fixture
def out(made, tmp_path):
    """The run, to be changed."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def run(made, out, *assignments, update=False):
    loaded = recipes.load(str(made / "light.toml"), [*QUICK, *assignments])
    return curate([made / "dump"], out, loaded, CurateOptions(update=update), Console(file=io.StringIO()))


def recaption(out, url, *assignments, model="m1", tokenize=False):
    options = [f"captions.endpoint.url={url}", f"captions.endpoint.model={model}", *QUICK, *assignments]
    run_captions(out, "default", "endpoint", options, tokenize, Console(file=io.StringIO()))


def ask(out, query):
    with LedgerQueries(out) as ledger:
        return [tuple(row.values()) for row in ledger.rows(query)]


def answered(out, model="m1"):
    """sample_id, caption, problem of the endpoint's rows; each sample at most once."""
    found = ask(out, f"SELECT sample_id, caption, problem FROM captions WHERE model = '{model}' ORDER BY ALL")
    assert len({row[0] for row in found}) == len(found)
    return found


def sound(out):
    return verify(RunFolder(out)).problems == []


def test_every_kept_sample_is_shown_to_the_model_and_gets_one_row(out, monkeypatch):
    monkeypatch.setenv("REELMILL_API_KEY", "secret")
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        recaption(out, server.url)
    assert len(answered(out)) == KEPT == len(server.requests)
    assert set(server.paths) == {"/v1/chat/completions"}
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}
    shown = sorted(len(pictures(request)) for request in server.requests)
    assert shown == [1, 1, 1, 12, 12, 12, 12]
    for request in server.requests:
        assert request["model"] == "m1"
        assert min(pictures(request)[0].size) == 64
        assert ("what moves" in words(request)) == (len(pictures(request)) > 1)
    assert ask(
        out, "SELECT DISTINCT caption, caption_source FROM samples WHERE status = 'kept' AND kind <> 'text'"
    ) == [(GOOD, "endpoint")]
    assert "secret" not in "".join(path.read_text("latin-1") for path in out.rglob("*") if path.is_file())


def test_frames_go_to_the_model_in_the_order_of_time(out):
    """Frame k of a clip that drifts to the left is the first one moved by k steps."""
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        recaption(out, server.url, "captions.frames.short_side=120")
    clip = next(pictures(request) for request in server.requests if len(pictures(request)) == 12)
    from PIL import ImageChops, ImageStat

    def distance(a, b):
        return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean)

    from_first = [distance(clip[0], picture) for picture in clip]
    assert from_first[0] == 0
    assert from_first[1] < from_first[4] < from_first[8]


def test_the_rows_are_done_for_this_model_and_another_model_asks_again(out):
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        recaption(out, server.url)
        recaption(out, server.url)
        assert len(server.requests) == KEPT
        recaption(out, server.url, model="m2")
    assert len(server.requests) == 2 * KEPT
    assert len(answered(out, "m1")) == len(answered(out, "m2")) == KEPT


def test_documents_follow_the_chosen_caption_and_stay_one_each(out):
    before = rows(out, "tokens")
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        recaption(out, server.url, tokenize=True)
    after = ask(out, "SELECT kind, caption_source, count(*) FROM tokens GROUP BY ALL ORDER BY ALL")
    assert after == [("image", "endpoint", 3), ("text", None, 2), ("video", "endpoint", 4)]
    assert len(rows(out, "tokens")) == len(before)
    assert sound(out)


def test_an_endpoint_that_is_down_leaves_no_row_and_the_rerun_fills_in(out):
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        url = server.url
    with pytest.raises(MachineError, match=r"7 without an answer of endpoint.*\n.*7 x ConnectError"):
        recaption(out, url)
    assert answered(out) == []
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        recaption(out, server.url)
    assert len(answered(out)) == KEPT


def hang_up():
    raise ConnectionAbortedError


PASSING = [
    lambda: (500, {"error": "overloaded"}),
    lambda: (503, b""),
    lambda: (429, {"error": "slow down"}),
    lambda: (200, b"<html>hello</html>"),
    lambda: (200, b'{"choices": []}'),
    lambda: (200, b"[" * 50_000),
    lambda: (200, {"choices": [{"message": {"content": 17}}]}),
    lambda: (200, json.dumps(completion(GOOD)).encode() + b" " * (1 << 21)),  # sound but for its size
    hang_up,
]


def test_failures_that_pass_are_asked_again(out):
    """Each sample fails in two ways of these; each way is met."""
    lock, asked = threading.Lock(), {}

    def reply(number, request):
        with lock:
            place, times = asked.setdefault(json.dumps(request), [len(asked), 0])
            asked[json.dumps(request)][1] += 1
        return completion(GOOD) if times == 2 else PASSING[(place + times * 2) % len(PASSING)]()

    with ChatServer(reply) as server:
        recaption(out, server.url)
    assert len(server.requests) == 3 * KEPT
    assert {row[1:] for row in answered(out)} == {(GOOD, None)}


def test_what_fails_for_good_leaves_the_others_alone(out):
    def reply(number, request):
        return (400, {"error": "the picture is too large"}) if len(pictures(request)) == 1 else completion(GOOD)

    with ChatServer(reply) as server, pytest.raises(MachineError, match=r"3 x status 400.*too large"):
        recaption(out, server.url)
    assert len(answered(out)) == KEPT - 3
    assert len(server.requests) == KEPT  # a refusal is not asked twice in a run


def test_a_stall_is_cut_off_and_asked_again(out):
    free, ended = threading.Event(), threading.Event()

    def reply(number, request):
        if number == 0:
            free.wait(300)
            ended.set()
        return completion(GOOD)

    with ChatServer(reply) as server:
        recaption(out, server.url, "captions.endpoint.request_s=2")
        assert not ended.is_set(), "nobody waited for it"
        free.set()
    assert len(answered(out)) == KEPT


@pytest.mark.parametrize("status", [401, 404, 302])
def test_a_wrong_address_key_or_model_stops_the_run(out, status):
    with (
        ChatServer(lambda n, request: (status, {"error": "no such model"})) as server,
        pytest.raises(ConfigError, match=rf"answered status {status}.*no such model"),
    ):
        recaption(out, server.url)
    assert answered(out) == []


JUNK = [
    ("", "empty"),
    (None, "empty"),
    ("I'm sorry, but I cannot help with that request.", "refusal"),
    ("a mill a mill a mill a mill a mill a mill", "repetition"),
    ("<|im_start|>assistant A mill turns.", "leaked_template"),
    ("mill, hill, buy mill, cheap mill, sale, discount, best price", "seo_list"),
    ("Le moulin tourne sur la colline dans le vent.", "wrong_language"),
]


def test_junk_is_a_row_that_is_not_chosen_and_not_asked_again(out):
    chosen = ask(out, "SELECT sample_id, caption, caption_source FROM samples ORDER BY ALL")
    with ChatServer(lambda n, request: completion(JUNK[n][0])) as server:
        recaption(out, server.url)
        recaption(out, server.url)
    assert len(server.requests) == KEPT == len(JUNK)
    assert sorted(row[2] for row in answered(out)) == sorted(problem for _, problem in JUNK)
    assert ask(out, "SELECT sample_id, caption, caption_source FROM samples ORDER BY ALL") == chosen


def test_what_is_taken_from_an_answer_is_one_clean_line_of_whole_sentences(out):
    hostile, cut_off = (
        completion("A mill\n\nturns \ud800 on\x00 a\u202e hill."),
        completion("A mill turns. The wi", "length"),
    )
    with ChatServer(lambda n, request: hostile if n % 2 else cut_off) as server:
        recaption(out, server.url)
    assert {row[1] for row in answered(out)} == {"A mill turns ? on a hill.", "A mill turns."}


def test_long_clips_are_asked_part_by_part_and_joined(out):
    lock, numbers = threading.Lock(), iter(range(100))

    def reply(number, request):
        with lock:
            return completion(f"Scene number {next(numbers)} shows a drifting patchwork.")

    with ChatServer(reply) as server:
        recaption(out, server.url, "captions.frames.part_s=2.2")
    parts = dict(ask(out, "SELECT end_s - start_s > 2.2 AS long, any_value(parts) FROM samples JOIN captions USING (sample_id) WHERE model = 'm1' AND kind = 'video' GROUP BY ALL"))  # fmt: skip  # noqa: E501
    assert parts == {True: 2, False: 1}
    assert len(server.requests) == KEPT + 2
    assert sum(row[1].count("Scene number") for row in answered(out)) == KEPT + 2


def test_a_killed_run_goes_on_and_ends_with_one_row_each(out, monkeypatch, capsys):
    blocked = threading.Event()
    release = threading.Event()

    def reply(number, request):
        if number >= 4 and not release.is_set():
            blocked.set()
            release.wait(300)
        return completion(GOOD)

    with ChatServer(reply) as server:
        command = ["caption", "run", str(out), "--source", "endpoint"]
        command += ["--url", server.url, "--model", "m1", "--no-tokenize"]
        settings = (*QUICK, "captions.batch=2", "captions.endpoint.concurrency=1")
        command += [part for setting in settings for part in ("--set", setting)]
        killed = subprocess.Popen(
            [sys.executable, "-m", "reelmill", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert blocked.wait(120)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        release.set()
        survived = {row[0] for row in answered(out)}
        assert 2 <= len(survived) <= 4
        asked = len(server.requests)
        done = CommandLine(monkeypatch, capsys)(*command)
        assert len(server.requests) - asked == KEPT - len(survived)
    assert len(answered(out)) == KEPT
    assert (done.code, "endpoint" in done.out) == (0, True)
    assert sound(out)


def test_samples_wait_for_the_recipes_endpoint_and_the_rerun_equals_an_undisturbed_run(stills, tmp_path):
    recipe = ('captions.sources=["sidecar","facts","endpoint"]', "captions.endpoint.model=m1", "captions.batch=3")

    def some(number, request):
        return completion(GOOD) if number < 3 else (500, {"error": "out of memory"})

    with ChatServer(lambda n, request: completion(GOOD)) as server:
        run(stills, tmp_path / "undisturbed", *recipe, f"captions.endpoint.url={server.url}")
    out = tmp_path / "out"
    with ChatServer(some) as server, pytest.raises(MachineError, match="not tokenized before"):
        run(stills, out, *recipe, "captions.endpoint.concurrency=1", f"captions.endpoint.url={server.url}")
    assert len(answered(out)) == 3
    assert ask(out, "SELECT caption_source, count(*) FROM tokens GROUP BY ALL ORDER BY ALL") == [
        ("endpoint", 3),
        (None, 2),
    ]
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        run(stills, out, *recipe, f"captions.endpoint.url={server.url}")
        assert len(server.requests) == STILLS - 3
    assert rows(out, "captions") == rows(tmp_path / "undisturbed", "captions")
    assert rows(out, "tokens") == rows(tmp_path / "undisturbed", "tokens")
    assert sound(out)


def test_without_waiting_the_next_good_caption_is_tokenized_and_replaced_later(stills, tmp_path):
    out = tmp_path / "out"
    recipe = ('captions.sources=["sidecar","facts","endpoint"]', "captions.endpoint.model=m1", "captions.wait=false")
    with ChatServer(lambda n, r: (500, {})) as server, pytest.raises(MachineError, match="next good caption"):
        run(stills, out, *recipe, f"captions.endpoint.url={server.url}")
    assert len(rows(out, "tokens")) == STILLS + 2
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        run(stills, out, *recipe, f"captions.endpoint.url={server.url}")
    assert ask(out, "SELECT caption_source, count(*) FROM tokens GROUP BY ALL ORDER BY ALL") == [
        ("endpoint", STILLS),
        (None, 2),
    ]


def test_the_recipe_states_which_caption_is_chosen(made, out):
    with ChatServer(lambda n, request: completion("一只风车在山坡上慢慢转动。")) as server:
        recaption(out, server.url)
    chosen = "SELECT caption_source, count(*) FROM samples WHERE caption IS NOT NULL GROUP BY ALL ORDER BY ALL"
    assert ask(out, chosen) == [("endpoint", KEPT)]
    run(made, out, 'captions.prefer=["facts"]', update=True)
    assert ask(out, chosen) == [("facts", KEPT)]
    run(made, out, 'captions.languages=["en"]', update=True)
    assert ask(out, chosen) == [("facts", 4), ("sidecar", 3)]
    assert ask(out, "SELECT DISTINCT problem FROM captions WHERE model = 'm1'") == [("wrong_language",)]
    assert dict(ask(out, "SELECT caption_source, count(*) FROM tokens WHERE kind <> 'text' GROUP BY ALL")) == dict(
        ask(out, chosen)
    )


def test_plain_duckdb_sees_the_chosen_caption_too(out, monkeypatch):
    monkeypatch.chdir(out)
    with duckdb.connect("reelmill.duckdb", read_only=True) as connection:
        found = connection.execute("SELECT caption_source, count(*) FROM samples GROUP BY ALL ORDER BY ALL").fetchall()
    assert found == [("facts", 4), ("sidecar", 3), (None, 4)]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("captions.endpoint.url=file:///etc/passwd", "http or https"),
        ("captions.endpoint.url=http://me:pass@host/v1", "password"),
        ("captions.endpoint.model=", "model is empty"),
        ('captions.sources=["endpont"]', "did you mean 'endpoint'"),
        ('captions.prompt_languages=["fr"]', "prompt_languages"),
        ('captions.languages=["english"]', "captions.languages"),
        ("captions.prefer=[]", "captions.prefer is empty"),
        ("captions.endpoint.concurrency=0", "at least 1"),
        ("rules.motion.min=0.5", "recaptioning changes"),
    ],
)
def test_what_cannot_be_used_says_so(out, assignment, message):
    with pytest.raises(ConfigError, match=message):
        recaption(out, "http://127.0.0.1:1/v1", assignment)


def test_without_vllm_the_error_names_the_extra(out):
    with pytest.raises(ConfigError, match=r"reelmill\[vllm\]"):
        run_captions(out, "default", "vllm", [*QUICK, "captions.vllm.model=m"], False, Console(file=io.StringIO()))


def test_vllms_answers_go_to_the_samples_that_were_asked_about(out, monkeypatch):
    """vLLM itself needs CUDA: a stand-in with the two names that the worker calls answers with what it was shown."""

    class LLM:
        def __init__(self, **settings):
            assert settings["model"] == "m"
            assert settings["limit_mm_per_prompt"] == {"image": 12}

        def chat(self, conversations, sampling, use_tqdm):
            shown = [pictures({"messages": messages}) for messages in conversations]
            texts = [f"A scene of {len(images)} pictures, {images[0].width} wide." for images in shown]
            return [SimpleNamespace(outputs=[SimpleNamespace(text=text, finish_reason="stop")]) for text in texts]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **settings: settings))
    settings = [*QUICK, "captions.vllm.model=m", "captions.frames.part_s=2.2"]
    run_captions(out, "default", "vllm", settings, False, Console(file=io.StringIO()))
    found = ask(
        out,
        """SELECT kind, parts, caption FROM samples JOIN captions c USING (sample_id, caption)
        WHERE model = 'm' GROUP BY ALL ORDER BY ALL""",
    )
    assert [(kind, parts) for kind, parts, _ in found] == [("image", 1), ("image", 1), ("video", 1), ("video", 2)]
    assert all(("of 1 pictures" in text) == (kind == "image") for kind, _, text in found)
    assert len(answered(out, "m")) == KEPT


@pytest.mark.slow
def test_without_a_gpu_ray_says_so_instead_of_waiting(out):
    settings = [*QUICK, "captions.vllm.model=m", "engine.executor=ray"]
    with pytest.raises(MachineError, match="asks for 1 GPUs; Ray has 0"):
        run_captions(out, "default", "vllm", settings, False, Console(file=io.StringIO()))


def test_pairs_for_a_captioner_of_ones_own(out, tmp_path):
    from PIL import Image

    with ChatServer(lambda n, request: completion(GOOD if len(pictures(request)) > 1 else "红色的气球。")) as server:
        recaption(out, server.url)
    written, left_out = export_pairs(out, tmp_path / "pairs.jsonl", "default", ["endpoint"], 8)
    assert (written, left_out) == (KEPT, 0)
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    for pair in pairs:
        images = [Image.open(tmp_path / name) for name in pair["images"]]
        assert len(images) == (8 if pair["kind"] == "video" else 1)
        assert all(image.format == "JPEG" for image in images)
        assert pair["messages"][1]["content"] == pair["caption"]
        assert [part["image"] for part in pair["messages"][0]["content"][:-1]] == pair["images"]
        assert set(pair["prompts"]) == ({"content", "motion"} if pair["kind"] == "video" else {"content"})
        assert pair["prompts"]["content"].startswith("请" if pair["kind"] == "image" else "These are frames")
    assert export_pairs(out, tmp_path / "none.jsonl", "default", ["facts"], 8) == (0, 0)


@pytest.mark.slow
def test_ray_gives_the_same_captions(out, tmp_path):
    shutil.copytree(out, tmp_path / "ray")
    with ChatServer(lambda n, request: completion(GOOD)) as server:
        recaption(out, server.url)
        recaption(tmp_path / "ray", server.url, "engine.executor=ray", "engine.workers=2")
    assert rows(out, "captions") == rows(tmp_path / "ray", "captions")
