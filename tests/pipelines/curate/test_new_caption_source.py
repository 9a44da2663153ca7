"""Caption sources of one's own: the one that CONTRIBUTING shows, and a model; what they get and what becomes of it."""

import io
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest
from contributing import block
from dumps import light_recipe, write_dump
from PIL import Image
from rich.console import Console

from reelmill.curation.captions.contract import (
    Answer,
    Captioner,
    CaptionSource,
    ModelCaptioner,
    Reply,
    Unavailable,
)
from reelmill.errors import ConfigError, MachineError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.captions import run_captions
from reelmill.pipelines.curate.run import CurateOptions, curate

QUICK = ("engine.executor=inline", "captions.frames.short_side=64", "captions.frames.frames=3")
HERE = "test_new_caption_source"


class Rows(Captioner):
    """Keeps the rows that it gets."""

    seen: ClassVar = []

    def caption(self, row):
        Rows.seen.append(dict(row))
        return


class Counting(ModelCaptioner):
    """Says how many frames it saw; fails at images, gives no reply after `silent`, and is gone after `most` samples."""

    @dataclass
    class Config:
        model: str = ""
        most: int = 100
        silent: int = 100

    def setup(self, settings):
        self.frames = settings.frames

    def ask(self, questions):
        for number, question in enumerate(questions):
            if number == self.config.silent:
                return
            if number == self.config.most:
                raise Unavailable("gone home")
            if question.row["kind"] == "image":
                yield Reply(question, failure="I see no image")
                continue
            pictures = [Image.open(io.BytesIO(jpeg)) for part in question.parts for jpeg in part]
            assert max(map(len, question.parts)) <= self.frames and "moves" in question.prompt
            yield Reply(question, [Answer(f"A clip of {len(pictures)} frames drifts by.", False)])


class Odd(CaptionSource):
    """Neither kind."""


@pytest.fixture(scope="module", autouse=True)
def importable():
    """Recipes name the classes of this file by its module."""
    import sys

    sys.modules[HERE] = sys.modules[__name__]
    yield
    del sys.modules[HERE]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dump, a recipe that scores motion alone, and the run of it with the source of CONTRIBUTING."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "my_captions.py").write_text(block("python", "(Captioner)"))
    (folder / "named.toml").write_text(block("toml", "my_captions:"))
    write_dump(folder / "dump", videos=1)
    (folder / "dump" / "copy0.mp4").unlink()
    (folder / "dump" / "v0.mp4").rename(folder / "dump" / "drifting-blue_patchwork-7.mp4")
    light_recipe(folder / "light.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        light = recipes.load(str(folder / "light.toml"), QUICK)
        light.score.scorers = {"motion_dis": {}}
        del light.rules["colour"]
        light.captions = recipes.load(str(folder / "named.toml"), QUICK).captions
        recipes.check(light)
        curate([folder / "dump"], folder / "out", light, CurateOptions(), Console(quiet=True))
    return folder


def ask(out, query):
    with LedgerQueries(out) as ledger:
        return [tuple(row.values()) for row in ledger.rows(query)]


def recaption(out, name, *assignments):
    settings = [*QUICK, f'captions.prefer=["{name}"]', *assignments]
    run_captions(out, "default", name, settings, False, Console(quiet=True))


def test_the_source_of_contributing_captions_what_it_can_and_the_others_follow(made):
    rows = ask(
        made / "out", "SELECT uri, caption, caption_source FROM samples WHERE status = 'kept' AND kind <> 'text'"
    )
    by_uri = {uri: (caption, source) for uri, caption, source in rows}
    assert by_uri["drifting-blue_patchwork-7.mp4"] == ("drifting blue patchwork", "name")
    assert {source for uri, (_, source) in by_uri.items() if "drifting" not in uri} == {"sidecar", "facts"}
    facts = ask(made / "out", "SELECT caption FROM captions WHERE caption_source = 'facts' AND caption LIKE '%video%'")
    assert facts and all("motion" in text or "still" in text or "fast" in text for (text,) in facts)


def test_a_captioner_gets_the_whole_row_of_samples(made):
    Rows.seen.clear()
    recaption(made / "out", f"{HERE}:Rows")
    with LedgerQueries(made / "out") as ledger:
        rows = ledger.rows("SELECT * FROM samples WHERE status = 'kept' AND kind <> 'text' ORDER BY sample_id")
    assert {"motion_dis", "uri", "alt", "licence", "status", "caption", "sample_id"} <= set(rows[0])
    assert sorted(Rows.seen, key=lambda row: row["sample_id"]) == rows


def test_a_model_of_ones_own_is_shown_frames_and_its_failures_wait(made):
    table = (f"captions.count.use={HERE}:Counting", "captions.count.model=m1")
    with pytest.raises(MachineError, match=r"without an answer of count.*\n +\d x I see no image"):
        recaption(made / "out", "count", *table)
    made_of = (
        "SELECT s.kind, c.model, c.caption FROM captions c JOIN samples s USING (sample_id) WHERE model IS NOT NULL"
    )
    rows = ask(made / "out", made_of)
    assert Counter(rows) == {("video", "m1", "A clip of 3 frames drifts by."): len(rows)} and rows
    with pytest.raises(MachineError, match=r"\n +2 x I see no image\n"):  # the videos are done
        recaption(made / "out", "count", *table)
    with pytest.raises(MachineError, match=r"\d x the source gave no reply"):
        recaption(made / "out", "count", *table, "captions.count.model=m3", "captions.count.silent=0")
    with pytest.raises(MachineError, match="not asked: gone home"):
        recaption(made / "out", "count", *table, "captions.count.model=m2", "captions.count.most=0")


@pytest.mark.parametrize(
    ("name", "assignments", "message"),
    [
        ("nothing", (), "captions.sources: unknown 'nothing'"),
        ("no_such_module:Class", (), "there is no package 'no_such_module'"),
        (f"{HERE}:Odd", (), "neither a Captioner nor a ModelCaptioner"),
        ("pathlib:Path", (), "is not a reelmill.curation.captions.contract.CaptionSource"),
        ("count", (f"captions.count.use={HERE}:Counting",), "captions.count.model is empty"),
        ("x", ("captions.x.use=facts", "captions.x.mood=1"), "unknown key 'captions.x.mood'"),
        ("endpoint", ("captions.endpiont.url=x",), "unknown table captions.endpiont; did you mean 'endpoint'"),
        ("facts", ("captions.facts.use=sidecar",), "facts is a source of reelmill's own"),
        (
            "second",
            ("captions.second.use=endpoint", "captions.second.model=m"),
            "captions.second.url is ''",
        ),
    ],
)
def test_sources_that_cannot_be(made, name, assignments, message):
    with pytest.raises(ConfigError, match=message):
        recaption(made / "out", name, *assignments)
