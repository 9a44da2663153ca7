"""The audio stage through `curate`: rows, rules by sound, reruns, files with sound alone, forgetting."""

import shutil

import numpy as np
import pytest
from dumps import light_recipe
from rich.console import Console
from videos import scene_frames, write_video
from voices import babble, silence, write_spoken_video, write_wav

from reelmill.curation.rules import Rule
from reelmill.curation.speech.config import SoundConfig
from reelmill.errors import ConfigError
from reelmill.orchestration.plan import extend_plan
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.run import CurateOptions, curate
from reelmill.pipelines.ledger.forget import Criterion, forget


def rows(out, query):
    with LedgerQueries(out) as ledger:
        return ledger.rows(query)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run folder, how to run the same again) of a spoken video, a mute one and two recordings."""
    folder = tmp_path_factory.mktemp("audio")
    dump = folder / "dump"
    dump.mkdir()
    speech = np.concatenate([silence(0.5), babble(2.0), silence(0.5)])
    write_spoken_video(dump / "spoken.mp4", scene_frames([(1, 72)]), speech)
    write_video(dump / "mute.mp4", scene_frames([(2, 72)]))
    write_wav(dump / "voice.wav", speech)
    (dump / "broken.mp3").write_bytes(b"ID3" + b"\0" * 50)
    recipe = recipes.load(str(light_recipe(folder / "light.toml")), ["engine.executor=inline"])
    recipe.sound = SoundConfig(measure=True)
    recipe.score.expanders["audio"] = "reelmill.curation.expanders.audio:expand"
    recipe.rules["silent"] = Rule("speech_share", min=0.3, stage="sound", kinds=["video"], null="keep")

    def again(changed=recipe, **options):
        return curate([dump], folder / "out", changed, CurateOptions(**options), Console(quiet=True)).root

    return again(), again


def test_sound_is_a_table_and_rules_judge_by_it(run):
    out, _ = run
    found = {r["uri"]: r for r in rows(out, "SELECT uri, a.* FROM items i JOIN audio a USING (item_id)")}
    assert sorted(found) == ["mute.mp4", "spoken.mp4", "voice.wav"]
    assert found["mute.mp4"]["tracks"] == 0 and found["mute.mp4"]["speech_share"] is None
    assert found["spoken.mp4"]["codec"] == "aac"
    ((start, end),) = [(span["start_s"], span["end_s"]) for span in found["spoken.mp4"]["speech"]]
    assert start == pytest.approx(0.5, abs=0.2) and end == pytest.approx(2.5, abs=0.3)
    shares = {r["uri"]: r["speech_share"] for r in rows(out, "SELECT uri, speech_share FROM samples")}
    assert shares["spoken.mp4"] == pytest.approx(2 / 3, abs=0.1)


def test_a_file_with_sound_alone_is_an_item_and_a_broken_one_is_refused(run):
    out, _ = run
    kinds = {r["uri"]: r for r in rows(out, "SELECT uri, kind, status, reason, duration_s FROM items")}
    assert kinds["voice.wav"]["kind"] == "audio" and kinds["voice.wav"]["duration_s"] == pytest.approx(3.0)
    assert kinds["broken.mp3"]["status"] == "refused"
    (sample,) = rows(out, "SELECT * FROM samples WHERE kind = 'audio'")
    assert (sample["status"], sample["start_s"], sample["end_s"]) == ("kept", 0.0, 3.0)


def test_without_an_expander_for_sound_its_files_are_counted_and_not_read(run, tmp_path):
    _, again = run
    plain = recipes.load("sample", ["engine.executor=inline"])
    folder = RunFolder(tmp_path / "out")
    dump = again().parent / "dump"
    with folder.lock() as locked:
        planned = extend_plan(locked, dump, plain.plan, kinds=plain.score.expanders)
    assert planned.new_items == 2 and planned.ignored == {".wav": 1, ".mp3": 1}


def test_a_rerun_measures_nothing_and_other_options_measure_anew(run):
    out, again = run
    before = {p: p.stat().st_mtime_ns for p in (out / "audio").glob("*.parquet")}
    again()
    assert {p: p.stat().st_mtime_ns for p in (out / "audio").glob("*.parquet")} == before
    recipe = recipes.load(str(out / "recipe.toml"), ["sound.silence_db=-30.0"])
    with pytest.raises(ConfigError, match="silence_db"):
        again(recipe)
    again(recipe, update=True)
    assert {p: p.stat().st_mtime_ns for p in (out / "audio").glob("*.parquet")} != before


def test_a_folder_of_an_earlier_version_answers(run, tmp_path):
    """One without the tables of sound has their columns, empty."""
    out, _ = run
    older = tmp_path / "older"
    shutil.copytree(out, older)
    for place in (older / "audio", older / "checksums" / "audio"):
        shutil.rmtree(place)
    (older / "schemas" / "audio.parquet").unlink()
    assert rows(older, "SELECT * FROM audio") == []
    assert {r["speech_share"] for r in rows(older, "SELECT speech_share FROM samples")} == {None}


def test_forgetting_an_item_takes_its_sound_along(run):
    out, _ = run
    (item,) = rows(out, "SELECT item_id FROM items WHERE uri = 'voice.wav'")
    forget(RunFolder(out), Criterion(uri="voice.wav"), Console(quiet=True))
    assert not rows(out, f"SELECT * FROM audio WHERE item_id = '{item['item_id']}'")
    assert len(rows(out, "SELECT * FROM audio")) == 2
