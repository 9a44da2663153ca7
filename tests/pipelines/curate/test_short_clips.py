"""Clips too short for a latent frame are rejected by the rule on frames, at whatever rate tokens are made."""

import json

from command_line import CommandLine
from dumps import light_recipe
from odd_media import film, pictures

from reelmill.orchestration.tokens_config import TokensConfig
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes


def told(out, selection):
    """By name: (verdict, rule, latent frames, failures)."""
    query = """
        SELECT s.uri, v.status, v.rule, sum(t.grid_t) AS latents, count(f.sample_id) AS failures
        FROM samples s JOIN verdicts v USING (sample_id) LEFT JOIN tokens t USING (sample_id)
        LEFT JOIN failures f USING (sample_id) WHERE v.selection = $1 GROUP BY ALL ORDER BY ALL"""
    with LedgerQueries(out) as ledger:
        return {row["uri"]: tuple(row.values())[1:] for row in ledger.rows(query, [selection])}


def test_slides_and_short_clips_are_rejected_not_lost(tmp_path, monkeypatch, capsys):
    reelmill = CommandLine(monkeypatch, capsys)
    dump, out = tmp_path / "dump", tmp_path / "out"
    dump.mkdir()
    film(dump / "slides.mp4", pictures(4), fps=1 / 3)
    film(dump / "film.mp4", pictures(32))
    rules = {"frames": recipes.sample().rules["frames"]}
    tokens = TokensConfig("reelmill-tok-xs", "bytes", 64 * 64, 8.0)
    recipe = light_recipe(tmp_path / "light.toml", rules=rules, tokens=tokens)
    slow = ("--recipe", recipe, "--executor", "inline", "--set", "tokens.fps=1")
    assert reelmill("curate", dump, "--out", out, *slow).code == 0
    rejected = ("rejected", "frames", None, 0)
    assert told(out, "default") == {"slides.mp4": rejected, "film.mp4": rejected}  # 3.2 s have 3 frames then
    done = reelmill("select", out, "faster", "--set", "tokens.fps=4", "--complete")
    assert done.code == 0, done.err
    assert told(out, "faster") == {"slides.mp4": rejected, "film.mp4": ("kept", None, 3, 0)}
    assert json.loads(reelmill("sql", out, "SELECT count(*) AS n FROM failures", "--json").out) == [{"n": 0}]


def test_a_rule_of_one_s_own_stays():
    own = recipes.load("sample", ["tokens.fps=2", "rules.frames.expr=floor(end_s - start_s)"])
    assert own.rules["frames"].expr == "floor(end_s - start_s)"
    assert "least(fps, 2)" in recipes.load("sample", ["tokens.fps=2"]).rules["frames"].expr
