"""Annotations and judgements of narrated videos by an endpoint: questions, checks, what is left to do, documents."""

import json
import shutil

import numpy as np
import pytest
import torch
from chat_server import ChatServer, completion, pictures, words
from language_models import write_small_model
from narrated import STEPS, how_to, speech, subtitles
from rich.console import Console
from tiny_clip import tiny_clip
from voices import write_spoken_video, write_wav

from reelmill.curation.annotations.answers import notes
from reelmill.curation.annotations.config import AnnotationConfig
from reelmill.curation.annotations.prompts import load_prompts
from reelmill.curation.annotations.story import Story
from reelmill.curation.captions.contract import Answer
from reelmill.curation.judging.answers import judgement
from reelmill.curation.narration import Block
from reelmill.errors import ConfigError, MachineError, WeightsError
from reelmill.orchestration.recipe import load_recipe
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.select import SelectOptions, select
from reelmill.pipelines.ledger.verify import verify
from reelmill.pipelines.report.explain import explain
from reelmill.tokenize.documents import parse, passages
from reelmill.tokenize.shards import read_footer

SETTINGS = (
    *("engine.executor=inline", "tokens.tokenizer=reelmill-tok-xs", "tokens.text=bytes", "tokens.area=4096"),
    "tokens.narration.max_tokens=500",
    "annotations.short_side=64",
)
CHINESE = ("我们先把水烧开。", "然后放入面条。")
FOLDING, READY = "A sheet of paper is folded.", "The folded plane is finished."
CAPTION, WHOLE = "A patterned sheet lies on the table.", "Someone folds a plane from a sheet of paper, step by step."
IN_CHINESE = "烧水之后把面条放进锅里煮。"


def segments(*parts):
    return json.dumps({"segments": [{"first": a, "last": b, "summary": text} for a, b, text in parts]})


def kind_of(request):
    """What is asked: the scene question alone has pictures, the question for segments alone wants JSON."""
    return "scene" if pictures(request) else "segment" if '"segments"' in words(request) else "summary"


def good(_, request):
    """A model that does as it is asked, in the language in which it is asked."""
    if "我们" in words(request):
        return completion(segments((1, 2, IN_CHINESE)) if kind_of(request) == "segment" else IN_CHINESE)
    whole = "<think>Let me see.</think>\n" + WHOLE
    divided = "```json\n" + segments((1, 3, FOLDING), (4, 4, READY)) + "\n```"
    return completion({"scene": CAPTION, "segment": divided, "summary": whole}[kind_of(request)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of a how-to and of a Chinese recording, whose documents carry nothing but the transcript."""
    folder = tmp_path_factory.mktemp("annotations")
    dump = folder / "dump"
    dump.mkdir()
    write_spoken_video(dump / "plane.mp4", [frame for n in range(4) for frame in how_to(n)], speech(), fps=8)
    subtitles(dump / "plane.srt", STEPS)
    write_wav(dump / "radio.wav", speech())
    subtitles(dump / "radio.srt", CHINESE)
    curate([dump], folder / "out", recipes.load("emu3_5", SETTINGS), CurateOptions(), Console(quiet=True))
    return folder / "out"


@pytest.fixture
def out(made, tmp_path):
    """The run, to be changed."""
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def annotate(out, url, *assignments, name="stage2", carry=("captions", "summaries")):
    own = [f"annotations.text={{url = '{url}', model = 'm', tries = 2, backoff_s = 0.01}}"]
    changes = [*own, f"tokens.narration.carry={json.dumps(carry)}", *assignments]
    return select(out, name, SelectOptions(assignments=changes, complete=True), Console(quiet=True))


def rows(out, query):
    with LedgerQueries(out) as ledger:
        return ledger.rows(query)


def annotations(out, uri="plane.mp4"):
    query = "SELECT a.* FROM annotations a JOIN items USING (item_id) WHERE uri = '{}' ORDER BY kind, part"
    return rows(out, query.format(uri))


def tokens(out, uri, fingerprint):
    query = f"SELECT * FROM tokens WHERE uri = '{uri}' AND fingerprint = '{fingerprint}' ORDER BY part"
    (shard, *_) = sorted((out / "tokens" / fingerprint[:12]).glob("*.parquet"))
    return rows(out, query), read_footer(shard)[1].vocab


def told(out, uri, fingerprint):
    """The passages of the documents of a video, and the kinds of their blocks."""
    found, vocab = tokens(out, uri, fingerprint)
    said = [passages(parse(vocab, np.array(row["tokens"], np.int32))) for row in found]
    return [[(p.kind, p.text.strip()) for p in document] for document in said], [
        [block["kind"] for block in row["blocks"]] for row in found
    ]


def test_segments_scenes_and_the_whole_are_asked_once_and_stand_in_the_documents(out):
    assert rows(out, "SELECT * FROM annotations") == []
    with ChatServer(good) as server:
        selected = annotate(out, server.url)
    kinds = sorted(map(kind_of, server.requests))
    assert kinds == ["scene"] * 4 + ["segment"] * 2 + ["summary"] * 2
    for request in server.requests:
        if kind_of(request) == "scene":
            assert [picture.size for picture in pictures(request)] == [(85, 64)]
            assert sum(step in words(request) for step in STEPS) == 1  # what is said in this scene
        elif "Fold the paper" in words(request):
            assert all(step in words(request) for step in STEPS)
    (summary,) = [words(r) for r in server.requests if kind_of(r) == "summary" and STEPS[0] in words(r)]
    assert all(f"[{n * 4:.1f}s] {CAPTION}" in summary for n in range(4)) and f"[1.0s] {FOLDING}" in summary

    found = annotations(out)
    assert [(r["kind"], r["part"], r["text"], r["start_s"], r["end_s"]) for r in found] == [
        *(("scene", n, CAPTION, n * 4.0, n * 4.0 + 4.0) for n in range(4)),
        ("segment", 0, FOLDING, 1.0, 11.0),
        ("segment", 1, READY, 13.0, 15.0),
        ("summary", 0, WHOLE, 0.0, 16.0),
    ]
    assert {(r["model"], r["problem"], r["language"]) for r in found} == {("m", None, "en")}
    assert {r["language"] for r in annotations(out, "radio.wav")} == {"zh"}
    assert "以下是一段视频中说的话" in "".join(map(words, server.requests))

    documents, blocks = told(out, "plane.mp4", selected.fingerprint)
    shown = [(("thought", CAPTION), ("block", ""), ("text", step)) for step in STEPS]
    (document, *more) = documents
    assert document[0] == ("global_thought", f"{WHOLE}\n{FOLDING}")  # the last step stands in the next document
    assert document[1:] == [part for step in shown[: len(document) // 3] for part in step]
    assert more[-1][0] == ("global_thought", f"{WHOLE}\n{FOLDING}\n{READY}")
    assert blocks[0] == ["global_thought", *["thought", "image", "text"] * (len(document) // 3)]
    assert [part for document in documents for part in document[1:]] == [part for step in shown for part in step]
    assert told(out, "radio.wav", selected.fingerprint)[0] == [
        [("global_thought", f"{IN_CHINESE}\n{IN_CHINESE}"), ("text", "".join(CHINESE))]
    ]
    assert verify(RunFolder(out)).problems == []


def test_documents_carry_what_they_are_told_to_and_a_layout_without_marks_has_it_as_lines(out):
    with ChatServer(good) as server:
        selected = annotate(out, server.url, "tokens.layout=emu3", carry=("captions",))
    documents, blocks = told(out, "plane.mp4", selected.fingerprint)
    shown = [[("text", CAPTION), ("block", ""), ("text", f"{step}\n{CAPTION}")] for step in STEPS]
    assert documents[0][:3] == shown[0] and blocks[0][:3] == ["thought", "image", "text"]
    plain = rows(out, "SELECT count(*) AS n FROM tokens WHERE len([b FOR b IN blocks IF b.kind LIKE '%thought']) = 0")
    assert plain[0]["n"] > 0  # the run's own documents are as they were


def test_what_fails_is_asked_again_alone(out):
    def moody(number, request):
        is_second = kind_of(request) == "scene" and STEPS[1] in words(request)
        return (500, {"error": "busy"}) if is_second else good(number, request)

    with ChatServer(moody) as server, pytest.raises(MachineError, match=r"(?s)1 kept samples lack annot.*status 500"):
        annotate(out, server.url)
    assert [(r["kind"], r["part"]) for r in annotations(out)] == [
        *(("scene", n) for n in (0, 2, 3)),
        *(("segment", n) for n in (0, 1)),
    ]
    assert rows(out, "SELECT uri FROM tokens WHERE len([b FOR b IN blocks IF b.kind = 'thought']) > 0") == []
    with ChatServer(good) as server:
        annotate(out, server.url)
        annotate(out, server.url)
        assert sorted(map(kind_of, server.requests)) == ["scene", "summary"]
    assert [r["kind"] for r in annotations(out)] == ["scene"] * 4 + ["segment"] * 2 + ["summary"]
    assert verify(RunFolder(out)).problems == []


HOSTILE = {
    "no json": ("I would divide it into two parts.", "not_json"),
    "another form": ('{"segments": [{"first": "one", "last": 4, "summary": "x"}]}', "wrong_schema"),
    "a list": ("[1, 2]", "wrong_schema"),
    "deep": ("[" * 100_000, "not_json"),
    "beyond the end": (segments((1, 9, FOLDING)), "wrong_schema"),
    "a gap": (segments((1, 1, FOLDING), (3, 4, READY)), "wrong_division"),
    "nothing": ('{"segments": []}', "wrong_division"),
    "back to front": (segments((3, 4, READY), (1, 2, FOLDING)), "wrong_division"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_divides_nothing_is_one_row_with_its_problem(name):
    said, problem = HOSTILE[name]
    sentences = [Block(4.0 * n + 1, 4.0 * n + 3, step) for n, step in enumerate(STEPS)]
    story = Story({"start_s": 0.0, "end_s": 16.0}, sentences, [], "en", load_prompts()["en"], [])
    (note,) = notes(story, "segment", 0, Answer(said, cut_off=False), AnnotationConfig())
    assert (note.problem, note.start_s, note.end_s) == (problem, 1.0, 15.0)
    (note,) = notes(story, "segment", 0, Answer(said[:40], cut_off=True), AnnotationConfig())
    assert note.problem in ("cut_off", problem)


def test_junk_texts_are_rows_that_no_document_carries(out):
    bad = {
        STEPS[0]: "Es ist ein Blatt Papier auf dem Tisch und die Hand ist nicht zu sehen.",
        STEPS[1]: "I'm sorry, I cannot view images.",
        STEPS[2]: load_prompts()["en"].own_words("scene")[0],
        STEPS[3]: "On the table there is a sheet, and beside the sheet there is another one.",
    }
    copied = " ".join(STEPS[:2])

    def reply(number, request):
        if kind_of(request) == "scene":
            return completion(next(said for step, said in bad.items() if step in words(request)))
        divided = segments((1, 3, copied), (4, 4, READY))
        divided = f"Here you are: {divided}" if "我们" in words(request) else divided
        return completion(divided) if kind_of(request) == "segment" else good(number, request)

    with ChatServer(reply) as server:
        selected = annotate(out, server.url, "annotations.most_words=14")
    problems = {(r["kind"], r["part"]): r["problem"] for r in annotations(out)}
    assert problems == {
        ("scene", 0): "wrong_language",
        ("scene", 1): "refusal",
        ("scene", 2): "leaked_template",
        ("scene", 3): "too_long",
        ("segment", 0): "copied_transcript",
        ("segment", 1): None,
        ("summary", 0): None,
    }
    assert [(r["kind"], r["problem"]) for r in annotations(out, "radio.wav")] == [
        ("segment", "not_json"),
        ("summary", None),
    ]
    documents, _ = told(out, "plane.mp4", selected.fingerprint)
    assert not any(kind == "thought" for document in documents for kind, _ in document)


def test_the_settings_are_checked_before_anything_is_asked(tmp_path):
    carry = 'tokens.narration.carry=["captions"]'
    with pytest.raises(ConfigError, match=r"annotations\.text\.model is empty"):
        recipes.load("emu3_5", [carry])
    with pytest.raises(ConfigError, match=r"annotations\.text\.url is 'file:///x'; it must be an http"):
        recipes.load("emu3_5", [carry, "annotations.text={model='m', url='file:///x'}"])
    with pytest.raises(ConfigError, match=r"carry: unknown 'caption'; did you mean 'captions'"):
        recipes.load("emu3_5", ['tokens.narration.carry=["caption"]'])
    (tmp_path / "prompts.toml").write_text('[en]\nsegments="{sentences}"\nscene="{said}"\nsummary="{transcript}"\n')
    known = [carry, "annotations.text={model='m', url='http://x/v1'}"]
    with pytest.raises(ConfigError, match="no prompts for zh"):
        recipes.load("emu3_5", [*known, f"annotations.prompts={tmp_path / 'prompts.toml'}"])


def judge_kind(request):
    asked = words(request)
    return "talking_head" if '"talking_head"' in asked else "frames" if pictures(request) else "speech"


def sober(_, request):
    """A judge that does as it is asked."""
    if judge_kind(request) == "talking_head":
        return completion('<think>A sheet.</think>{"talking_head": false, "reason": "A sheet is folded."}')
    return completion('```json\n{"score": 4, "reason": "Steps in order."}\n```')


def judged(out, url, *assignments, ask=("speech", "talking_head", "frames"), complete=True):
    model = f"{{url = '{url}', model = 'judge', tries = 2, backoff_s = 0.01}}"
    own = [f"judging.ask={json.dumps(ask)}", f"judging.text={model}", f"judging.vision={model}"]
    options = SelectOptions(assignments=[*own, "judging.short_side=64", *assignments], complete=complete)
    return select(out, "judged", options, Console(quiet=True))


def judgements(out):
    return rows(out, "SELECT judge, value, text, model, problem FROM judgements ORDER BY judge, created")


def verdict(out):
    (row,) = rows(out, """SELECT v.status, v.rule FROM verdicts v JOIN samples s USING (sample_id)
        WHERE selection = 'judged' AND uri = 'plane.mp4'""")  # fmt: skip
    return row["status"], row["rule"]


SPEECH = 'rules.speech={expr = "speech_score", min = 3.0, stage = "judges", null = "keep"}'


def test_judges_are_asked_once_and_what_they_say_are_columns(out):
    with ChatServer(sober) as server:
        judged(out, server.url, SPEECH)
        judged(out, server.url, SPEECH)
        kinds = [judge_kind(request) for request in server.requests]
        assert sorted(kinds) == ["frames", "speech", "speech", "talking_head"]  # a recording has nothing to look at
        asked = dict(zip(kinds, server.requests, strict=True))
        (chinese,) = [words(request) for request in server.requests if CHINESE[0] in words(request)]
        assert "1 到 5 分" in chinese
        (asked["speech"],) = [request for request in server.requests if STEPS[0] in words(request)]
    assert all(step in words(asked["speech"]) for step in STEPS) and "from 1 to 5" in words(asked["speech"])
    assert [picture.size for picture in pictures(asked["talking_head"])] == [(85, 64)] * 4
    assert [tuple(row.values()) for row in judgements(out)] == [
        ("frames", 4.0, "Steps in order.", "judge", None),
        ("speech", 4.0, "Steps in order.", "judge", None),
        ("speech", 4.0, "Steps in order.", "judge", None),
        ("talking_head", 0.0, "A sheet is folded.", "judge", None),
    ]
    query = "SELECT speech_score, talking_head, frames_score, speech_agreement FROM samples WHERE uri = 'plane.mp4'"
    assert [tuple(row.values()) for row in rows(out, query)] == [(4.0, 0.0, 4.0, None)]
    assert verdict(out) == ("kept", None)
    told = explain(out, "plane.mp4")["judgements"]
    assert [(row["judge"], row["text"]) for row in told] == [
        ("frames", "Steps in order."),
        ("speech", "Steps in order."),
        ("talking_head", "A sheet is folded."),
    ]
    assert verify(RunFolder(out)).problems == []


def test_what_judges_say_decides(out):
    def stern(number, request):
        said = sober(number, request)
        text = said["choices"][0]["message"]["content"]
        return completion(text.replace("false", "true").replace("4", "2"))

    with ChatServer(stern) as server:
        judged(out, server.url, SPEECH, ask=("speech",))
        assert verdict(out) == ("rejected", "speech")
        judged(out, server.url, ask=("talking_head",))
        assert verdict(out) == ("rejected", "talking_head_seen")  # a rule of the recipe
        before = len(server.requests)
        curate([out.parent / "none"][:0], out, load_recipe(out), CurateOptions(), Console(quiet=True))
        assert len(server.requests) == before and verdict(out) == ("rejected", "talking_head_seen")


def test_a_judge_that_cannot_be_asked_is_asked_again_and_nothing_is_tokenized_before(out):
    def moody(number, request):
        return (500, {"error": "busy"}) if judge_kind(request) == "speech" else sober(number, request)

    fresh = "tokens.narration.timestamps=true"
    with (
        ChatServer(moody) as server,
        pytest.raises(MachineError, match=r"(?s)2 kept samples wait for the judge of spe"),
    ):
        judged(out, server.url, fresh)
    assert judgements(out) == [] and rows(out, "SELECT DISTINCT fingerprint FROM tokens OFFSET 1") == []
    with ChatServer(sober) as server:
        fingerprint = judged(out, server.url, fresh).fingerprint
    documents, _ = told(out, "plane.mp4", fingerprint)
    assert ("text", f"[1.0s] {STEPS[0]}") in documents[0]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("I like it.", "not_json"),
        ('{"score": 9}', "wrong_schema"),
        ('{"score": 3.5}', "wrong_schema"),
        ('{"score": true}', "wrong_schema"),
        ('{"talking_head": true}', "wrong_schema"),
        ("[" * 100_000, "not_json"),
    ],
)
def test_a_judgement_of_another_form_has_no_value(said, problem):
    found = judgement("speech", Answer(said, cut_off=False))
    assert (found.value, found.problem) == (None, problem)
    assert judgement("talking_head", Answer('{"talking_head": "yes"}', cut_off=False)).problem == "wrong_schema"
    assert judgement("speech", Answer('{"score": ', cut_off=True)).problem == "cut_off"


def test_pictures_are_compared_with_words_by_clip(out, tmp_path):
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    clip = tiny_clip(tmp_path, "tiny-judge", {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text})
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    model = f"judging.clip={{model = 'tiny-judge', checkpoint = '{tmp_path / 'clip.pt'}'}}"
    judged(out, "http://127.0.0.1:9/v1", model, ask=("agreement",))
    (row,) = rows(out, "SELECT speech_agreement AS value FROM samples WHERE uri = 'plane.mp4'")
    assert -1 <= row["value"] <= 1 and judgements(out)[0]["model"] == "tiny-judge"
    with pytest.raises(WeightsError, match=r"none\.pt"):
        judged(out, "http://x/v1", "judging.clip={checkpoint = 'none.pt'}", ask=("agreement",))


def test_a_language_model_in_a_folder_reads_the_transcripts(out, tmp_path):
    write_small_model(tmp_path / "lm", STEPS)
    model = f"judging.lm={{model = '{tmp_path / 'lm'}'}}"
    judged(out, "http://127.0.0.1:9/v1", model, ask=("perplexity",))
    found = {row["uri"]: row["value"] for row in rows(out, "SELECT uri, text_perplexity AS value FROM samples")}
    assert 1.0 <= found["plane.mp4"] < 2.0 and found["radio.wav"] is None  # it has learned the one by heart
    assert {row["problem"] for row in judgements(out)} == {None, "too_short"}
    with pytest.raises(WeightsError, match=r"none, which judging\.lm\.model names, is no folder of a causal"):
        judged(out, "http://x/v1", "judging.lm={model = 'none'}", ask=("perplexity",))
    with pytest.raises(ConfigError, match=r"judging\.lm\.model is empty; name the model that judges perplexity"):
        recipes.load("emu3_5", ['judging.ask=["perplexity"]'])


def test_the_settings_of_judges_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="unknown 'speach'; did you mean 'speech'"):
        recipes.load("emu3_5", ['judging.ask=["speach"]'])
    with pytest.raises(ConfigError, match=r"judging\.text\.model is empty; name the model that judges speech"):
        recipes.load("emu3_5", ['judging.ask=["speech"]'])
    (tmp_path / "prompts.toml").write_text(
        '[en]\nspeech="x"\ntalking_head="y"\nframes="z"\n[zh]\nspeech="x"\ntalking_head="y"\nframes="z"\n'
    )
    known = ['judging.ask=["speech"]', "judging.text={model='m', url='http://x/v1'}"]
    with pytest.raises(ConfigError, match=r"en\.speech has no \{transcript\}"):
        recipes.load("emu3_5", [*known, f"judging.prompts={tmp_path / 'prompts.toml'}"])
