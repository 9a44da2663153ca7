"""Rules and verdicts against a plain-Python reference, and every way a rule can be wrong."""

import math

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelmill.config import from_dict
from reelmill.curation.decide import decide
from reelmill.curation.ledger import ITEMS, VERDICTS, samples_schema
from reelmill.curation.rules import Rule, RuleFilter, check
from reelmill.errors import ConfigError

SCHEMA = samples_schema({"is_good": "BOOLEAN", "words": "VARCHAR", "n": "BIGINT"})


def sample(name, item="i0", **columns):
    facts = {
        "sample_id": name,
        "item_id": item,
        "kind": "video",
        "start_s": 0.0,
        "end_s": 6.0,
        "width": 640,
        "height": 480,
    }
    return {**facts, **columns}


def item(name, uri=None, sha256=None, status="done"):
    return {"item_id": name, "uri": uri or name, "sha256": sha256 or f"hash of {name}", "status": status}


def verdicts(samples, rules, items=None):
    with duckdb.connect() as connection:
        connection.register("scored", pa.Table.from_pylist(samples, schema=SCHEMA))
        names = sorted({row["item_id"] for row in samples})
        rows = [{**dict.fromkeys(ITEMS.names), **row} for row in (items or map(item, names))]
        connection.register("items", pa.Table.from_pylist(rows, schema=ITEMS))
        found = decide(connection, rules)
    assert found.schema == VERDICTS
    return {row.pop("sample_id"): row for row in found.to_pylist()}


def test_the_first_rule_that_fails_is_the_reason():
    rules = {
        "duration": Rule("end_s - start_s", min=5.0, stage="scenes"),
        "motion": Rule("motion_score", min=0.04, max=0.5, stage="motion"),
        "text": Rule("text_area", max=0.03, stage="text"),
    }
    found = verdicts(
        [
            sample("fine", motion_score=0.04, text_area=0.03),
            sample("short", end_s=1.0, motion_score=0.9, text_area=1.0),
            sample("wild", motion_score=0.6, text_area=1.0),
            sample("still", motion_score=0.01, text_area=0.0),
            sample("wordy", motion_score=0.1, text_area=0.5),
        ],
        rules,
    )
    reasons = {
        name: (row["status"], row["stage"], row["rule"], row["value"], row["threshold"]) for name, row in found.items()
    }
    assert reasons == {
        "fine": ("kept", None, None, None, None),
        "short": ("rejected", "scenes", "duration", 1.0, 5.0),
        "wild": ("rejected", "motion", "motion", 0.6, 0.5),
        "still": ("rejected", "motion", "motion", 0.01, 0.04),
        "wordy": ("rejected", "text", "text", 0.5, 0.03),
    }


def test_a_rule_may_look_at_the_mean_of_the_scene():
    """Two halves of a shot on both sides of a bound stay together; other shots and videos have means of their own."""
    halves = [
        sample("a0", scene=0, motion_score=0.03),
        sample("a1", scene=0, motion_score=0.07),
        sample("a2", scene=1, motion_score=0.03),
        sample("b0", "i1", scene=0, motion_score=0.03),
    ]
    alone = {"motion": Rule("motion_score", min=0.04)}
    together = {"motion": Rule("avg(motion_score) OVER (PARTITION BY item_id, scene)", min=0.04)}
    check(together, SCHEMA)
    kept = [
        {name for name, row in verdicts(halves, rules).items() if row["status"] == "kept"}
        for rules in (alone, together)
    ]
    assert kept == [{"a1"}, {"a0", "a1"}]


def test_a_missing_value_waits_unless_the_rule_keeps_it():
    wait = {"motion": Rule("motion_score", min=0.1), "text": Rule("text_area", max=0.1)}
    found = verdicts([sample("none"), sample("some", text_area=0.0), sample("lost", text_area=0.5)], wait)
    assert [found[name]["status"] for name in ("none", "some", "lost")] == ["undecided", "undecided", "rejected"]
    assert found["lost"]["rule"] == "text", "a later rule that fails decides; the earlier one need not wait"
    keep = {"motion": Rule("motion_score", min=0.1, null="keep")}
    found = verdicts([sample("none"), sample("low", motion_score=0.0)], keep)
    assert [found[name]["status"] for name in ("none", "low")] == ["kept", "rejected"]


def test_a_second_chance_lets_pass_what_breaks_its_bound_alone():
    rules = {
        "motion": Rule("motion_score", min=0.1),
        "taste": Rule("aesthetic_score", min=5.5, unless="text_area <= 0.03 AND colourfulness >= 5"),
    }
    rows = {
        "fine": {"aesthetic_score": 6.0, "motion_score": 0.2},
        "plain": {"aesthetic_score": 4.0, "text_area": 0.01, "colourfulness": 20.0, "motion_score": 0.2},
        "wordy": {"aesthetic_score": 4.0, "text_area": 0.2, "colourfulness": 20.0, "motion_score": 0.2},
        "grey": {"aesthetic_score": 4.0, "text_area": 0.0, "colourfulness": 1.0, "motion_score": 0.2},
        "unseen": {"aesthetic_score": 4.0, "motion_score": 0.2},
        "waits": {"text_area": 0.0, "colourfulness": 20.0, "motion_score": 0.2},
        "still": {"aesthetic_score": 4.0, "text_area": 0.01, "colourfulness": 20.0, "motion_score": 0.0},
    }
    found = verdicts([sample(name, **columns) for name, columns in rows.items()], rules)
    assert {name: (row["status"], row["rule"], row["second_chance"]) for name, row in found.items()} == {
        "fine": ("kept", None, None),
        "plain": ("kept", None, "taste"),
        "wordy": ("rejected", "taste", None),
        "grey": ("rejected", "taste", None),
        "unseen": ("rejected", "taste", None),
        "waits": ("undecided", None, None),
        "still": ("rejected", "motion", "taste"),
    }
    with pytest.raises(ConfigError, match=r"rules\.taste\.unless = 'txt < 1'"):
        check({"taste": Rule("n", min=1, unless="txt < 1")}, SCHEMA)


def test_a_rule_looks_at_its_kinds_only():
    rules = {
        "size": Rule("width", min=1000.0, kinds=["image"]),
        "still": Rule("motion_score", min=0.5, kinds=["video"]),
    }
    found = verdicts(
        [sample("v", motion_score=0.6), sample("i", kind="image"), sample("t", kind="text", width=0)], rules
    )
    assert {name: row["rule"] for name, row in found.items()} == {"v": None, "i": "size", "t": None}
    assert found["t"]["status"] == "kept"


def test_no_rules_keep_everything():
    assert verdicts([sample("a")], {})["a"]["status"] == "kept"


def test_no_samples():
    assert verdicts([], {"a": Rule("width", min=1.0)}) == {}


def test_columns_of_any_type_can_be_judged():
    rules = {
        "good": Rule("is_good", min=1.0),
        "known": Rule("words IN ('yes', 'maybe')", min=1.0),
        "count": Rule("n", max=10.0),
        "area": Rule("width::DOUBLE * height * 1000000", min=1.0),
    }
    check(rules, SCHEMA)
    found = verdicts(
        [
            sample("a", is_good=True, words="yes", n=10),
            sample("b", is_good=False, words="yes", n=1),
            sample("c", is_good=True, words="it's not", n=1),
            sample("d", is_good=True, words="maybe", n=1 << 60),
        ],
        rules,
    )
    assert {name: row["rule"] for name, row in found.items()} == {"a": None, "b": "good", "c": "known", "d": "count"}


def test_names_with_quotes():
    found = verdicts([sample("a")], {'it\'s "too" small': Rule("width", min=9999.0, stage="sta'ge")})
    assert (found["a"]["rule"], found["a"]["stage"]) == ('it\'s "too" small', "sta'ge")


def test_exact_duplicates_point_at_the_smallest_uri():
    samples = [sample(f"{name}{part}", name) for name in ("i1", "i2", "i3", "i4", "i5") for part in (0, 1)]
    items = [
        item("i1", "b/2.mp4", "same"),
        item("i2", "a/9.mp4", "same"),
        item("i3", "c/1.mp4", "same"),
        item("i4", "d/1.mp4", "other"),
        item("i5", "A/0.mp4", "same", status="refused"),
    ]
    found = verdicts([s for s in samples if s["item_id"] != "i5"], {"wide": Rule("width", min=9999.0)}, items)
    assert {name: row["duplicate_of"] for name, row in found.items() if row["duplicate_of"]} == {
        "i10": "i2", "i11": "i2", "i30": "i2", "i31": "i2",
    }  # fmt: skip
    for name in ("i10", "i30"):
        row = found[name]
        assert (row["status"], row["stage"], row["rule"], row["value"]) == (
            "rejected",
            "duplicates",
            "exact_duplicate",
            None,
        )
    assert found["i20"]["rule"] == found["i40"]["rule"] == "wide"


def test_items_without_a_hash_are_no_duplicates_of_each_other():
    items = [{**item(name), "sha256": None} for name in ("i1", "i2")]
    found = verdicts([sample("a", "i1"), sample("b", "i2")], {}, items)
    assert [row["status"] for row in found.values()] == ["kept", "kept"]


@pytest.mark.parametrize("expr", ["motoin_score", "width +", "(SELECT 1 FROM items)", "max(width)", "words"])
def test_a_rule_that_does_not_bind_is_named(expr):
    rules = {"fine": Rule("width", min=1.0), "mine": Rule(expr, min=1.0)}
    if expr == "words":  # text that may hold numbers binds, and is judged when it does
        check(rules, SCHEMA)
        with pytest.raises(ConfigError, match="cannot be computed over these samples"):
            verdicts([sample("a", words="no number")], rules)
        return
    with pytest.raises(ConfigError, match=r"^rules\.mine\.expr = "):
        check(rules, SCHEMA)


@pytest.mark.parametrize("skip_if", ["fialed", "width >", "words"])
def test_a_skip_if_that_does_not_bind_is_named(skip_if):
    if skip_if == "words":
        check({}, SCHEMA, {"expensive": skip_if})
        return
    with pytest.raises(ConfigError, match=r"^score\.scorers\.expensive\.skip_if = "):
        check({}, SCHEMA, {"expensive": skip_if})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"expr": " ", "min": 1}, "empty expr"),
        ({"expr": "width"}, "has no bound: give min, max or both"),
        ({"expr": "width", "min": 2, "max": 1}, "keeps nothing: min 2 is above max 1"),
        ({"expr": "width", "min": math.nan}, "a bound that is no number"),
        ({"expr": "width", "max": math.inf}, "a bound that is no number"),
        ({"expr": "width", "min": 1, "kinds": ["vidoe"]}, r"kinds\[0\] is 'vidoe'; did you mean 'video'"),
        ({"expr": "width", "min": 1, "null": "reject"}, "null is 'reject'"),
        ({"expr": "width", "minimum": 1}, "unknown key 'rules.mine.minimum'; did you mean 'min'"),
    ],
)
def test_rules_that_make_no_sense(rule, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Rule, rule, "rules.mine")


numbers = (
    st.floats(-1e6, 1e6, allow_nan=False)
    | st.integers(-3, 3).map(float)
    | st.sampled_from([0.1 + 0.2, 0.3, 1e-300, -0.0])
)
columns = ["motion_score", "text_area", "quality_score"]
rows = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["video", "image", "text"]), **dict.fromkeys(columns, st.none() | numbers)}
    ),
    max_size=8,
)


@st.composite
def a_rule(draw):
    low, high = sorted(draw(st.tuples(numbers, numbers)))
    bounds = draw(st.sampled_from([{"min": low}, {"max": high}, {"min": low, "max": high}]))
    kinds = draw(st.lists(st.sampled_from(["video", "image", "text"]), unique=True, min_size=1))
    return Rule(
        draw(st.sampled_from(columns)), **bounds, kinds=kinds, null=draw(st.sampled_from(["undecided", "keep"]))
    )


def reference(row, rules):
    """(status, rule, value, threshold) of a row, in plain Python."""
    waiting = False
    for name, rule in rules.items():
        if row["kind"] not in rule.kinds:
            continue
        value = row[rule.expr]
        if value is None:
            waiting = waiting or rule.null == "undecided"
        elif rule.min is not None and value < rule.min:
            return "rejected", name, value, rule.min
        elif rule.max is not None and value > rule.max:
            return "rejected", name, value, rule.max
    return "undecided" if waiting else "kept", None, None, None


@settings(max_examples=30, deadline=None)
@given(rows, st.dictionaries(st.text("ab'\"", min_size=1, max_size=3), a_rule(), max_size=4))
def test_verdicts_equal_plain_python(rows, rules):
    samples = [sample(f"s{i}", f"i{i}", **row) for i, row in enumerate(rows)]
    found = verdicts(samples, rules)
    for row in samples:
        row_found = tuple(found[row["sample_id"]][key] for key in ("status", "rule", "value", "threshold"))
        assert row_found == reference(row, rules)
    skipped = RuleFilter(rules, SCHEMA).skipped(samples, "failed") if samples else []
    assert skipped == [found[row["sample_id"]]["status"] == "rejected" for row in samples]


def test_skip_if_may_say_more_than_failed():
    filter = RuleFilter({"still": Rule("motion_score", min=0.5)}, SCHEMA)
    batch = [sample("a", motion_score=0.1), sample("b", motion_score=0.9), sample("c", width=50), sample("d")]
    assert filter.skipped(batch, "failed") == [True, False, False, False]
    assert filter.skipped(batch, "failed OR width < 100") == [True, False, True, False]
    assert filter.skipped(batch, "motion_score > 0.5") == [False, True, False, False]


def test_a_skip_filter_reads_no_files(tmp_path):
    (tmp_path / "secret.csv").write_text("1\n")
    with pytest.raises(ConfigError, match="disabled by configuration"):
        RuleFilter({}, SCHEMA).skipped([sample("a")], f"(SELECT count(*) > 0 FROM read_csv('{tmp_path}/secret.csv'))")
