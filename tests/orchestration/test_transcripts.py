"""The transcribe stage through `curate`: subtitles, else an endpoint; rules by words; what fails is asked again."""

import numpy as np
import pytest
from dumps import light_recipe
from rich.console import Console
from transcription_server import TranscriptionServer
from videos import scene_frames, write_video
from voices import babble, silence, write_spoken_video, write_wav

from reelmill.curation.rules import Rule
from reelmill.curation.speech.config import SoundConfig, TranscriptConfig, TranscriptionEndpointConfig
from reelmill.errors import MachineError
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.verify import verify

WORDS = ("Fold", "the", "paper", "now.")


def said(_, seconds):
    """An answer as OpenAI's API gives it: four words over the clip, then what recognisers invent."""
    step = seconds / 8
    words = [{"word": word, "start": n * step, "end": (n + 1) * step} for n, word in enumerate(WORDS)]
    invented = {"text": " Thanks for watching!", "start": 4 * step, "end": 8 * step}
    segments = [{"id": 0, "text": " " + " ".join(WORDS), "start": 0.0, "end": 4 * step, "avg_logprob": -0.3}, invented]
    return {"text": "all of it", "language": "english", "duration": seconds, "words": words, "segments": segments}


def rows(out, query):
    with LedgerQueries(out) as ledger:
        return ledger.rows(query)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transcripts") / "dump"
    folder.mkdir()
    speech = np.concatenate([silence(0.5), babble(2.0), silence(0.5)])
    write_spoken_video(folder / "subtitled.mp4", scene_frames([(1, 72)]), speech)
    (folder / "subtitled.en.srt").write_text("1\n00:00:00,500 --> 00:00:02,500\nThis is how a mill grinds\n")
    write_wav(folder / "spoken.wav", speech)
    write_video(folder / "mute.mp4", scene_frames([(2, 72)]))
    return folder


def recipe_for(folder, url):
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), ["engine.executor=inline"])
    recipe.sound = SoundConfig(measure=True)
    endpoint = TranscriptionEndpointConfig(url=url, model="tiny", tries=2, backoff_s=0.01)
    recipe.transcripts = TranscriptConfig(sources=["subtitles", "endpoint"], endpoint=endpoint)
    recipe.score.expanders["audio"] = "reelmill.curation.expanders.audio:expand"
    recipe.rules["wordless"] = Rule("words_per_s", min=0.5, stage="speech", kinds=["video", "audio"])
    return recipe


def test_items_get_words_and_what_fails_is_asked_again(dump, tmp_path):
    out = tmp_path / "out"

    def again(recipe):
        curate([dump], out, recipe, CurateOptions(), Console(quiet=True))

    with TranscriptionServer(lambda *_: (500, {"error": "busy"})) as server:
        with pytest.raises(MachineError, match=r"(?s)1 without a transcript by endpoint.*status 500.*same command"):
            again(recipe_for(tmp_path, server.url))
        assert len(server.requests) == 2
    assert [row["uri"] for row in rows(out, "SELECT uri FROM samples WHERE status = 'undecided'")] == ["spoken.wav"]
    with TranscriptionServer(said) as server:
        recipe = recipe_for(tmp_path, server.url)
        again(recipe)
        again(recipe)
        (asked,) = server.requests  # the subtitled video never, the recording once
    assert asked["path"] == "/v1/audio/transcriptions" and asked["model"] == ["tiny"]
    assert asked["timestamp_granularities[]"] == ["segment", "word"]

    found = rows(out, "SELECT uri, t.* FROM items JOIN transcripts t USING (item_id) ORDER BY uri, source, segment")
    assert [(r["uri"], r["source"], r["problem"]) for r in found] == [
        ("mute.mp4", "subtitles", "no_subtitles"),
        ("spoken.wav", "endpoint", None),
        ("spoken.wav", "endpoint", "stock_phrase"),
        ("spoken.wav", "subtitles", "no_subtitles"),
        ("subtitled.mp4", "subtitles", None),
    ]
    heard = found[1]
    assert (heard["model"], heard["language"]) == ("tiny", "en")
    assert tuple(word["text"] for word in heard["words"]) == WORDS
    (speech,) = rows(out, "SELECT speech FROM items JOIN audio USING (item_id) WHERE uri = 'spoken.wav'")
    assert heard["words"][0]["start_s"] == pytest.approx(speech["speech"][0]["start_s"])  # times are the item's

    verdicts = rows(out, "SELECT uri, status, rule, n_words, language FROM samples ORDER BY uri")
    assert [tuple(row.values()) for row in verdicts] == [
        ("mute.mp4", "rejected", "wordless", 0, None),
        ("spoken.wav", "kept", None, 4, "en"),
        ("subtitled.mp4", "kept", None, 6, "en"),
    ]
    assert verify(RunFolder(out)).problems == []
