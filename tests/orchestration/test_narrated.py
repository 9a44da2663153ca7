"""Recipe `emu3_5` on narrated rendered videos: documents in order of time, blocks that trace to seconds."""

import base64
import io
import re
import sys
from itertools import pairwise

import av
import numpy as np
import pytest
from narrated import STEP_S, STEPS, how_to, speaker, speech, subtitles
from rich.console import Console
from videos import write_video
from voices import write_spoken_video, write_wav

from reelmill.curation.narration import Block, NarrationConfig, sentences, split
from reelmill.errors import ConfigError
from reelmill.orchestration.alike import find_alike
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.select import SelectOptions, select
from reelmill.pipelines.ledger.verify import verify
from reelmill.pipelines.report.explain import explain
from reelmill.pipelines.report.explain_png import draw
from reelmill.pipelines.report.narration_page import write_page
from reelmill.pipelines.report.page import write_report
from reelmill.pipelines.sampledump.narrated import write_narrated_dump
from reelmill.tokenize.documents import parse
from reelmill.tokenize.shards import read_footer


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrated")
    dump = folder / "dump"
    dump.mkdir()
    write_spoken_video(dump / "plane.mp4", [frame for n in range(4) for frame in how_to(n)], speech(), fps=8)
    subtitles(dump / "plane.srt", STEPS)
    write_spoken_video(dump / "speaker.mp4", speaker(), speech(), fps=8)
    subtitles(dump / "speaker.srt", ("I am here.", "I am still here.", "I talk and talk.", "Good bye."))
    write_wav(dump / "radio.wav", speech())
    subtitles(dump / "radio.srt", ("This is the radio.", "This is the radio again."))
    again = [frame for picture in (0, 6, 0) for frame in how_to(picture)]
    write_spoken_video(dump / "again.mp4", again, speech()[: 12 * 16_000], fps=8)
    subtitles(dump / "again.srt", ("Fold the sheet.", "Turn it round.", "Fold it again."))
    for name, first in (("unheard.mp4", 11), ("voiceless.mp4", 14)):
        write_video(dump / name, [frame for picture in range(3) for frame in how_to(first + picture)], fps=8)
    settings = ["engine.executor=inline", "tokens.tokenizer=reelmill-tok-xs", "tokens.text=bytes", "tokens.area=4096"]
    recipe = recipes.load("emu3_5", [*settings, "tokens.narration.max_tokens=200"])
    curate([dump], folder / "out", recipe, CurateOptions(), Console(quiet=True))
    return folder / "out"


def rows(out, query):
    with LedgerQueries(out) as ledger:
        return ledger.rows(query)


def test_the_how_to_is_kept_and_the_speaker_is_not(out):
    verdicts = {r["uri"]: (r["status"], r["rule"]) for r in rows(out, "SELECT uri, status, rule FROM samples")}
    silent = sorted(verdicts.pop(name) for name in ("unheard.mp4", "voiceless.mp4"))
    assert [status for status, _ in silent] == ["kept", "rejected"] and silent[1][1] == "silent"  # of 4 one, by a quota
    assert verdicts == {
        "again.mp4": ("kept", None),
        "plane.mp4": ("kept", None),
        "radio.wav": ("kept", None),
        "speaker.mp4": ("rejected", "steady"),
    }
    assert verify(RunFolder(out)).problems == []


def test_three_words_that_come_again_are_counted(out):
    found = {r["uri"]: r["words_repeated"] for r in rows(out, "SELECT uri, words_repeated FROM samples")}
    assert found["plane.mp4"] == 0.0 and found["speaker.mp4"] is None
    assert found["radio.wav"] == pytest.approx(1 / 7)  # "this is the"


def test_documents_hold_pictures_and_sentences_in_order_of_time(out):
    documents = rows(out, "SELECT * FROM tokens WHERE uri = 'plane.mp4' ORDER BY part")
    assert len(documents) > 1 and all(row["n_tokens"] <= 200 for row in documents)
    blocks = [block for row in documents for block in row["blocks"]]
    assert [block["kind"] for block in blocks] == ["image", "text"] * 4
    assert [block["start_s"] for block in blocks if block["kind"] == "text"] == [1.0, 5.0, 9.0, 13.0]
    for number, block in enumerate(block for block in blocks if block["kind"] == "image"):
        assert block["start_s"] == pytest.approx(number * STEP_S + STEP_S / 2, abs=0.51)
    (shard, *_) = sorted((out / "tokens").rglob("*.parquet"))
    _, footer = read_footer(shard)
    assert str(footer.vocab.layout) == "emu3.5"
    said = []
    for row in documents:
        tokens = np.array(row["tokens"], np.int32)
        assert parse(footer.vocab, tokens).n_vision == row["n_vision"] > 0
        for block in row["blocks"]:
            span = tokens[block["start"] : block["stop"]]
            if block["kind"] == "text":
                said.append(footer.vocab.tokenizer.decode(span.tolist()).strip())
            else:
                assert (span[0], span[-1]) == (footer.vocab.boi, footer.vocab.eoi)
    assert tuple(said) == STEPS


def test_documents_show_the_pictures_of_the_one_pass(out):
    (spent,) = rows(out, "SELECT sum(cpu_s) AS s FROM timings WHERE move = 'tokenize' AND stage = 'decode'")
    assert spent["s"] == 0.0  # nothing was decoded again
    assert not (out / "pictures").exists()  # they are dropped when the documents are made


def test_a_recording_is_its_words(out):
    (row,) = rows(out, "SELECT * FROM tokens WHERE uri = 'radio.wav'")
    assert row["kind"] == "text" and [block["kind"] for block in row["blocks"]] == ["text", "text"]


def test_the_words_spoken_around_a_key_frame(out):
    found = rows(
        out,
        """SELECT k.time_s, string_agg(w.text, ' ' ORDER BY w.start_s) AS said
        FROM keyframes k JOIN items USING (item_id), (SELECT item_id, unnest(words) AS w FROM chosen_transcripts) t
        WHERE t.item_id = k.item_id AND uri = 'plane.mp4' AND k.problem IS NULL
            AND w.start_s < k.time_s + 2 AND w.end_s > k.time_s - 2
        GROUP BY k.time_s ORDER BY k.time_s""",
    )
    assert [row["said"] for row in found] == list(STEPS)


def test_the_words_spoken_around_a_picture_of_a_document(out):
    found = rows(
        out,
        """SELECT part, b.start AS token, string_agg(w.text, ' ' ORDER BY w.start_s) AS said
        FROM (SELECT uri, fingerprint, part, unnest(blocks) AS b FROM tokens)
        JOIN (SELECT item_id, unnest(words) AS w FROM chosen_transcripts) t
            ON t.item_id = b.item_id AND w.start_s < b.start_s + 2 AND w.end_s > b.start_s - 2
        WHERE b.kind = 'image' AND uri = 'plane.mp4' GROUP BY ALL ORDER BY part, token""",
    )
    assert [row["said"] for row in found] == list(STEPS)
    assert found[0]["token"] == 1  # behind BOS


def test_explain_shows_what_is_seen_and_said_in_order_of_time(out):
    told = explain(out, "plane.mp4")["narration"]
    assert [row["text"] or row["what"] for row in told] == [part for step in STEPS for part in (step, "picture")]
    assert {row["dropped"] for row in told} == {None}
    assert "keyframes" not in explain(out, "plane.mp4")["scores"]


def test_a_page_shows_pictures_and_text_in_order_and_strikes_what_was_left_out(out, tmp_path):
    write_page(out, explain(out, "plane.mp4"), tmp_path / "plane.html")
    page = (tmp_path / "plane.html").read_text()
    places = [page.index(step) for step in STEPS] + [page.index("</body>")]
    assert [page.count("<img", first, then) for first, then in pairwise(places)] == [1, 1, 1, 1]
    (sound,) = re.findall(r'<audio controls src="data:audio/ogg;base64,([^"]+)">', page)
    with av.open(io.BytesIO(base64.b64decode(sound))) as heard:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in heard.decode(audio=0)])
        rate = heard.streams.audio[0].rate
    assert len(samples) / rate == pytest.approx(16.0, abs=0.1)
    spoken = np.abs(samples[int(1.2 * rate) : int(2.8 * rate)]).mean()
    assert spoken > 10 * np.abs(samples[int(3.2 * rate) : int(4.8 * rate)]).mean()  # as loud as it is, when it is
    write_page(out, explain(out, "speaker.mp4"), tmp_path / "speaker.html")
    page = (tmp_path / "speaker.html").read_text()
    assert 'class="dropped"' in page and "<small>repeats</small>" in page and "rejected by steady" in page


def test_a_recording_has_words_in_place_of_a_picture(out, tmp_path):
    write_page(out, explain(out, "radio.wav"), tmp_path / "radio.html")
    assert "This is the radio." in (tmp_path / "radio.html").read_text()
    draw(out, explain(out, "radio.wav"), tmp_path / "radio.png")
    page = write_report(out).page.read_text()
    places = [page.index(text) for text in ('id="h-documents"', "<h3>Kept", "plane.mp4", "<h3>Rejected", "speaker.mp4")]
    assert page[places[0] :].count("<audio controls") == 3 and "media-src data:" in page
    assert "Fold the paper in half." in page[places[1] :] and "<del>" not in page[places[1] : places[3]]


def test_the_second_stage_is_a_selection_of_the_same_run(out):
    query = """SELECT uri, v.status, v.rule FROM verdicts v JOIN scored USING (sample_id) JOIN items USING (item_id)
        WHERE selection = '{}' ORDER BY uri"""
    assert rows(out, query.format("stage1")) == rows(out, query.format("default"))
    found = rows(out, query.format("stage2"))
    select(out, "mine", SelectOptions(preset="emu3_5_stage2"), Console(quiet=True))
    assert rows(out, query.format("mine")) == found
    assert [tuple(row.values()) for row in found] == [
        ("again.mp4", "rejected", "repeated_pictures"),
        ("plane.mp4", "kept", None),
        ("radio.wav", "rejected", "pace"),  # 9 words in 16 s
        ("speaker.mp4", "rejected", "steady"),
        ("unheard.mp4", "rejected", "pace"),
        ("voiceless.mp4", "rejected", "pace"),
    ]


def test_pictures_that_come_again_are_counted_and_left_out_of_documents_that_are_to_differ(out):
    shares = (
        "SELECT uri, keyframes_repeated AS here, keyframes_elsewhere AS elsewhere FROM samples WHERE kind = 'video'"
    )
    found = {row["uri"]: (row["here"], row["elsewhere"]) for row in rows(out, shares)}
    assert found["plane.mp4"] == (0.0, 0.25)
    assert found["again.mp4"] == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    query = "SELECT time_s, repeats_s, other_videos FROM keyframes JOIN items USING (item_id) WHERE uri = 'again.mp4'"
    first, other, second = rows(out, f"{query} ORDER BY time_s")
    assert (first["repeats_s"], other["repeats_s"], second["repeats_s"]) == (None, None, first["time_s"])
    assert (first["other_videos"], other["other_videos"], second["other_videos"]) == (1, 0, 1)
    options = SelectOptions(assignments=["tokens.narration.distinct=true"], complete=True)
    fingerprint = select(out, "distinct", options, Console(quiet=True)).fingerprint
    query = "SELECT blocks FROM tokens WHERE uri = 'again.mp4' AND fingerprint {} '{}' ORDER BY part"
    for sign, images in (("<>", 3), ("=", 2)):
        blocks = [block for row in rows(out, query.format(sign, fingerprint)) for block in row["blocks"]]
        assert [block["kind"] for block in blocks].count("image") == images
        assert [block["kind"] for block in blocks].count("text") == 3
    assert find_alike(RunFolder(out)) == 0 and verify(RunFolder(out)).problems == []


def test_how_varied_and_how_sure_the_words_are(out):
    found = {row["uri"]: row for row in rows(out, "SELECT uri, words_entropy, speech_perplexity FROM samples")}
    assert found["plane.mp4"]["words_entropy"] > 0.9 > found["radio.wav"]["words_entropy"]
    assert found["plane.mp4"]["speech_perplexity"] is None  # subtitles are not guessed


def test_sentences_end_with_punctuation_or_a_pause_and_none_is_divided():
    def said(text, start, step=0.3):
        return [
            {"text": word, "start_s": start + n * step, "end_s": start + (n + 1) * step} for n, word in enumerate(text)
        ]

    words = [*said(["Dr.", "Mill", "is", "here."], 0.0), *said(["and", "then"], 1.2), *said(["stop"], 9.0)]
    found = sentences(
        [{"words": words}, {"words": said("先折。再等。".replace("。", "。 ").split(), 20.0)}], NarrationConfig()
    )
    assert [block.text for block in found] == ["Dr. Mill is here.", "and then", "stop", "先折。", "再等。"]
    frames = [Block(t, t, frame=n, scene_s=s) for n, (t, s) in enumerate([(0.2, 0.0), (5.0, 4.0), (10.0, 4.0)])]
    groups = list(split([*found[:3], *frames], lambda block: 10, 30))
    assert [[b.text or b.frame for b in group] for group in groups] == [
        [0, "Dr. Mill is here.", "and then"],
        [1, "stop", 2],
    ]
    assert list(split([Block(0.0, 1.0, "too much")], lambda block: 31, 30)) == []


def test_a_pipeline_of_spacy_divides_what_has_no_punctuation(tmp_path):
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer", config={"punct_chars": ["then"]})  # stands in for a parser's borders
    pipeline.to_disk(tmp_path / "borders")
    text = "fold it and then open it and then fold it again"
    words = [{"text": word, "start_s": n * 0.3, "end_s": n * 0.3 + 0.3} for n, word in enumerate(text.split())]
    plain = sentences([{"words": words}], NarrationConfig())
    assert [block.text for block in plain] == [text]
    found = sentences([{"words": words}], NarrationConfig(spacy=str(tmp_path / "borders")))
    assert [block.text for block in found] == ["fold it and then", "open it and then", "fold it again"]
    assert [block.start_s for block in found] == pytest.approx([0.0, 1.2, 2.4])
    with pytest.raises(ConfigError, match="spaCy cannot load 'no_such_pipeline'"):
        sentences([{"words": words}], NarrationConfig(spacy="no_such_pipeline"))


def test_without_spacy_its_pipelines_are_refused_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    words = [{"text": "fold", "start_s": 0.0, "end_s": 0.3}]
    with pytest.raises(ConfigError, match=r"pip install 'reelmill\[spacy\]'"):
        sentences([{"words": words}], NarrationConfig(spacy="xx_sent_ud_sm"))


@pytest.mark.slow
def test_the_narrated_sample_dump_gives_one_document(tmp_path):
    write_narrated_dump(tmp_path / "dump")
    settings = ["engine.executor=inline", "tokens.tokenizer=reelmill-tok-xs", "tokens.text=bytes", "tokens.area=4096"]
    recipe = recipes.load("emu3_5", settings)
    curate([tmp_path / "dump"], tmp_path / "out", recipe, CurateOptions(), Console(quiet=True))
    found = rows(tmp_path / "out", "SELECT uri, status, rule FROM samples ORDER BY uri")
    assert [tuple(row.values()) for row in found] == [
        ("howto/mill.mp4", "kept", None),
        ("talk/speaker.mp4", "rejected", "talking_head"),
    ]
    (document,) = rows(tmp_path / "out", "SELECT * FROM tokens")
    kinds = [block["kind"] for block in document["blocks"]]
    assert kinds.count("image") == 6 and kinds.count("text") == 7  # one step has two sentences
