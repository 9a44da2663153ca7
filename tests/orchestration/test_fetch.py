"""Rows of URL tables become items like any other: fetched into the run folder, once, and kept through kills."""

import hashlib
import io
import json
import shutil
import tarfile

import pytest
from dumps import curate_here, jpeg, light_recipe
from killing import deaths
from rich.console import Console
from site_server import answer, site
from videos import scene_frames, write_video

import reelmill
from reelmill.curation.fetching.config import FetchConfig
from reelmill.curation.ledger import CAPTIONS, FAILURES, FETCHES, ITEMS, VERDICTS, samples_schema
from reelmill.errors import ConfigError, MachineError
from reelmill.orchestration import fetch, fetched
from reelmill.orchestration.plan import PlanConfig, extend_plan
from reelmill.orchestration.runfolder import RunFolder
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.dry_run import preview, print_preview
from reelmill.pipelines.curate.run import CurateOptions
from reelmill.pipelines.curate.stats import gather
from reelmill.pipelines.ledger.forget import Criterion, forget
from reelmill.pipelines.ledger.verify import verify
from reelmill.tokenize.shards import TOKENS_SCHEMA

PICTURES = [jpeg(n) for n in range(8)]
SCHEMAS = {"items": ITEMS, "samples": samples_schema({}), "captions": CAPTIONS, "failures": FAILURES}
SCHEMAS |= {"fetches": FETCHES, "verdicts": VERDICTS, "tokens": TOKENS_SCHEMA}
QUICK = ("fetch.allow_private=true", "fetch.backoff_s=0.01", "fetch.host_rate=0.0", "fetch.tries=1")


@pytest.fixture
def served():
    pages = {f"/{n}.jpg": answer(data, ETag=f'"{n}"') for n, data in enumerate(PICTURES)}
    with site(pages) as running:
        yield running


def write_table(folder, served, paths, more=()):
    folder.mkdir(exist_ok=True)
    known = {"width": 520, "page_url": f"{served.url}/page"}
    rows = [
        {"url": f"{served.url}{path}", "caption": f"A textured picture with the sign {path[1:2]} in it", **known}
        for path in paths
    ]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *more]))
    return folder


def curate(place, served, paths, *assignments, **options):
    dump = write_table(place / "dump", served, paths)
    recipe = place / "light.toml"
    return curate_here(
        dump, place / "out", recipe if recipe.exists() else light_recipe(recipe), *QUICK, *assignments, **options
    )


def rows(place, query):
    with LedgerQueries((place / "out").resolve()) as ledger:
        return ledger.rows(query)


def contents(folder):
    """(bytes in the tars that rows name, by URL; names of all tars)."""
    found = {}
    with LedgerQueries(folder.resolve()) as ledger:
        for row in ledger.rows("SELECT * FROM fetches WHERE outcome = 'fetched' ORDER BY url"):
            with (folder / "fetched" / row["tar"]).open("rb") as tar:
                tar.seek(row["offset"])
                found[row["url"]] = tar.read(row["bytes"])
    return found, {path.name for path in (folder / "fetched").glob("*.tar")}


def test_urls_become_samples_with_what_their_rows_say(tmp_path, served):
    served.pages["/0.jpg"] = answer(PICTURES[0], Link='<https://x.test/free>; rel="license"')
    served.pages["/robots.txt"] = answer(b"User-agent: *\nDisallow: /2.jpg")
    said = curate(tmp_path, served, ["/0.jpg", "/1.jpg", "/2.jpg", "/gone.jpg", "/0.jpg?again"])
    assert "2 fetched, 1 refused, 2 failed" in said
    items = rows(tmp_path, "SELECT * FROM items ORDER BY url, uri")
    assert [(row["status"], (row["reason"] or "").partition(":")[0]) for row in items] == [
        ("done", ""),
        ("refused", "fetch_status_404"),
        ("done", ""),
        ("refused", "fetch_robots"),
        ("refused", "fetch_status_404"),
    ]
    assert (items[0]["alt"], items[0]["page_url"]) == ("A textured picture with the sign 0 in it", f"{served.url}/page")
    assert (items[0]["licence"], items[2]["licence"]) == ("https://x.test/free", None)
    assert items[0]["crawled"].endswith("Z")
    samples = rows(tmp_path, "SELECT * FROM samples ORDER BY url")
    assert [(row["url"], row["kind"], row["width"], row["caption"]) for row in samples] == [
        (f"{served.url}/{n}.jpg", "image", 520, f"A textured picture with the sign {n} in it") for n in (0, 1)
    ]
    assert rows(tmp_path, "SELECT count(*) AS n FROM tokens") == [{"n": 2}]
    run = reelmill.Run(tmp_path / "out")
    assert len(run.frames(samples[1]["sample_id"])) == 1
    counted = {(row["outcome"], row["reason"]): row["urls"] for row in gather(tmp_path / "out")["fetches"]}
    assert counted == {("fetched", None): 2, ("refused", "robots"): 1, ("failed", "status_404"): 2}
    found, tars = contents(tmp_path / "out")
    assert list(found.values()) == PICTURES[:2]
    for name in tars:  # any program reads them
        with tarfile.open(tmp_path / "out" / "fetched" / name) as tar:
            assert all(member.name.endswith(".jpg") for member in tar)
    before = served.seen.total()
    again = curate(tmp_path, served, ["/0.jpg", "/1.jpg", "/2.jpg", "/gone.jpg", "/0.jpg?again", "/3.jpg"])
    assert "1 new items" in again
    assert served.seen.total() == before + 3  # robots.txt, tdmrep.json, and the new one
    assert verify(RunFolder(tmp_path / "out")).problems == []


def test_spans_of_a_fetched_video_are_its_samples(tmp_path, served):
    write_video(tmp_path / "v.mp4", scene_frames([(1, 60), (101, 48)]), options={"crf": "24", "g": "24"})
    served.pages["/v"] = answer((tmp_path / "v.mp4").read_bytes())
    rows_ = [
        {"url": f"{served.url}/v", "start": start, "end": end, "caption": f"The clip at second {start}", "motion": 3}
        for start, end in ((0.5, 2.0), (1.5, 4.0))
    ]
    dump = write_table(tmp_path / "dump", served, [], rows_)
    quick = ("rules.duration.min=0.5", "score.scorers={}", "rules={}", "tokens.area=1024")
    curate_here(dump, tmp_path / "out", light_recipe(tmp_path / "light.toml"), *QUICK, *quick)
    found = rows(tmp_path, "SELECT * FROM samples ORDER BY start_s")
    assert [(row["start_s"], row["end_s"], row["alt"], row["caption"]) for row in found] == [
        (0.5, 2.0, "The clip at second 0.5", "The clip at second 0.5"),
        (1.5, 4.0, "The clip at second 1.5", "The clip at second 1.5"),
    ]
    (item,) = rows(tmp_path, "SELECT * FROM items")
    assert (item["n_samples"], item["alt"], json.loads(item["meta"])) == (2, None, {"motion": 3})
    assert served.seen["/v"] == 1


def test_what_failed_is_tried_again_by_its_reason(tmp_path, served):
    served.pages |= {"/late.jpg": [answer(b"", 404), answer(PICTURES[5])], "/down.jpg": answer(b"", 500)}
    served.pages["/page"] = answer(b"<html>")
    out = tmp_path / "out"
    plan(out, write_table(tmp_path / "dump", served, ["/0.jpg", "/late.jpg", "/down.jpg", "/page"]))
    fetch_all(out)
    assert fetch_all(out) == fetch_all(out, ["fetch:timeout"]) == []
    fetch_all(out, ["fetch:status_404"])
    assert (served.seen["/late.jpg"], served.seen["/down.jpg"], served.seen["/0.jpg"]) == (2, 1, 1)
    served.pages["/down.jpg"] = answer(b"", 503)
    fetch_all(out, ["fetch"])
    assert (served.seen["/late.jpg"], served.seen["/down.jpg"], served.seen["/page"]) == (2, 2, 1)
    outcomes, found, tars = state(out)
    assert {(row["outcome"], (row["reason"] or "").partition(":")[0]) for row in outcomes} == {
        ("fetched", ""),
        ("failed", "status_503"),
        ("refused", "not_media"),
    }
    assert sorted(found.values()) == sorted([PICTURES[0], PICTURES[5]])
    assert len(tars) == 2  # what is here stays where it is
    with pytest.raises(ConfigError, match="fetch:timeout"):
        fetch.check_retry("fetches")


def test_asked_again_what_changed_replaces_what_was(tmp_path, served):
    served.pages["/0.jpg"] = [answer(PICTURES[0], ETag='"a"'), answer(b"", 304)]
    served.pages["/1.jpg"] = [answer(PICTURES[1], ETag='"b"'), answer(PICTURES[6], ETag='"c"')]
    served.pages["/2.jpg"] = [answer(PICTURES[2]), answer(b"", 404)]
    served.pages["/3.jpg"] = [answer(PICTURES[3]), answer(PICTURES[3], X_Robots_Tag="noai")]
    served.pages["/4.jpg"] = answer(PICTURES[4])
    paths = [f"/{n}.jpg" for n in range(5)]
    curate(tmp_path, served, paths)
    _, tars = contents(tmp_path / "out")
    curate(tmp_path, served, paths, refetch=True)
    assert dict(served.requests)["/0.jpg"]["if-none-match"] == '"a"'
    after, tars_after = contents(tmp_path / "out")
    assert list(after.values()) == [PICTURES[0], PICTURES[6], PICTURES[2], PICTURES[4]]
    assert len(tars_after) == len(tars) == 2  # units of three
    assert PICTURES[3] not in b"".join(path.read_bytes() for path in (tmp_path / "out" / "fetched").glob("*.tar"))
    assert [row["url"] for row in rows(tmp_path, "SELECT url FROM samples ORDER BY url")] == sorted(after)
    shown = rows(tmp_path, "SELECT t.url FROM tokens t ORDER BY t.url")
    assert [row["url"] for row in shown] == sorted(after)
    hashes = rows(tmp_path, "SELECT i.sha256 = f.sha256 AS same FROM items i JOIN fetches f USING (item_id)")
    assert len(hashes) == 5
    assert verify(RunFolder(tmp_path / "out")).problems == []


def test_forgotten_bytes_are_gone_and_stay_away(tmp_path, served):
    served.pages["/copy.jpg"] = answer(PICTURES[0])
    paths = ["/0.jpg", "/1.jpg"]
    curate(tmp_path, served, paths)
    (item,) = rows(tmp_path, f"SELECT item_id FROM items WHERE url = '{served.url}/0.jpg'")
    forget(RunFolder(tmp_path / "out"), Criterion(item=item["item_id"]), Console(file=io.StringIO()))
    found, _ = contents(tmp_path / "out")
    assert list(found.values()) == [PICTURES[1]]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out" / "fetched").iterdir() if path.is_file())
    assert PICTURES[0] not in everything
    dump = write_table(tmp_path / "dump", served, [*paths, "/copy.jpg"])
    with RunFolder(tmp_path / "out").lock() as folder:
        extend_plan(folder, dump, PlanConfig())
    fetch_all(tmp_path / "out", ["fetch", "fetch:forgotten"])
    assert served.seen["/0.jpg"] == 1
    (copy,) = rows(tmp_path, f"SELECT * FROM fetches WHERE url = '{served.url}/copy.jpg'")
    assert (copy["outcome"], copy["reason"].partition(":")[0]) == ("refused", "forgotten")
    assert rows(tmp_path, "SELECT count(*) AS n FROM samples") == [{"n": 1}]


def test_without_fetching_rows_are_counted(tmp_path, served):
    dump = write_table(tmp_path / "dump", served, ["/0.jpg", "/1.jpg"])
    with RunFolder(tmp_path / "out").lock() as folder:
        assert "2 rows of URL tables" in str(extend_plan(folder, dump, PlanConfig(), with_addresses=False))


def plan(out, dump):
    with RunFolder(out).lock() as folder:
        folder.prepare(SCHEMAS)
        extend_plan(folder, dump, PlanConfig(unit_items=2))


def fetch_all(out, retry=(), **options):
    """The stage alone."""
    config = FetchConfig(**{"allow_private": True, "host_rate": 0.0, "tries": 1, "robots": False, **options})
    with RunFolder(out).lock() as folder:
        tasks = fetch.fetch_tasks(folder, retry)
        return list(fetch.fetch_units(folder, config, {"image", "video"}, tasks))


def state(out):
    with LedgerQueries(out.resolve()) as ledger:
        outcomes = ledger.rows("SELECT unit, url, outcome, reason, sha256 FROM fetches ORDER BY unit, url")
    return outcomes, *contents(out)


def test_killed_at_any_commit_nothing_is_lost_or_doubled(tmp_path, served, monkeypatch):
    planned = tmp_path / "planned" / "out"
    plan(planned, write_table(tmp_path / "dump", served, ["/0.jpg", "/gone.jpg", "/1.jpg"]))
    shutil.copytree(planned, tmp_path / "whole")
    fetch_all(tmp_path / "whole")
    wanted = state(tmp_path / "whole")
    assert len(wanted[0]) == 3
    died = 0
    for commit, out in deaths(planned, tmp_path, monkeypatch, fetch_all, step=2):
        died += 1
        fetch_all(out)
        assert state(out) == wanted, f"killed at rename {commit}"
        assert not list(out.rglob(".*.tmp"))
    assert died >= 5


def test_a_disk_that_is_full_stops_the_run_and_it_goes_on(tmp_path, served, monkeypatch):
    plan(tmp_path / "out", write_table(tmp_path / "dump", served, ["/0.jpg", "/1.jpg", "/2.jpg"]))

    def full(self, row, suffix, file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fetched.UnitWriter, "add", full)
        with pytest.raises(MachineError, match="free space"):
            fetch_all(tmp_path / "out")
    fetch_all(tmp_path / "out")
    assert sorted(contents(tmp_path / "out")[0].values()) == sorted(PICTURES[:3])


def test_many_urls_side_by_side_each_have_one_outcome(tmp_path, served):
    served.pages |= {f"/n{n}": answer(PICTURES[n % 8] + bytes([n % 256, n // 256])) for n in range(300)}
    plan(tmp_path / "out", write_table(tmp_path / "dump", served, [f"/n{n}" for n in range(300)]))
    receipts = fetch_all(tmp_path / "out", total=16, per_host=16)
    assert sum(receipt["fetched"] for receipt in receipts) == len(receipts) * 2 == 300
    assert served.most <= 16
    found, _ = contents(tmp_path / "out")
    assert {url: data[-2:] for url, data in found.items()} == {
        f"{served.url}/n{n}": bytes([n % 256, n // 256]) for n in range(300)
    }


def test_a_url_of_several_rows_is_fetched_once(tmp_path, served):
    served.pages["/page"] = answer(b"<html>")
    paths = ["/0.jpg", "/gone", "/1.jpg", "/0.jpg", "/page", "/0.jpg", "/gone", "/page"]
    wrong = [
        {"url": f"{served.url}/1.jpg", "sha256": "0" * 64},
        {"url": f"{served.url}/2.jpg", "width": 1, "height": 1},
    ]
    again = [{"url": f"{served.url}/2.jpg", "width": 90, "height": 90}]
    plan(tmp_path / "out", write_table(tmp_path / "dump", served, paths, [*wrong, *again]))
    receipts = fetch_all(tmp_path / "out", min_side=50)
    assert served.seen == dict.fromkeys(["/.well-known/tdmrep.json", "/0.jpg", "/gone", "/1.jpg", "/page", "/2.jpg"], 1)
    found = rows(
        tmp_path,
        """SELECT p.position + 2 * p.unit AS n, coalesce(split_part(f.reason, ':', 1), f.outcome) AS word,
        f.http_status, f.sha256, f.attempts FROM plan p JOIN fetches f USING (item_id) ORDER BY n""",
    )
    fetched = ["fetched", "status_404", "fetched", "fetched", "not_media", "fetched", "status_404", "not_media"]
    assert [row["word"] for row in found] == [*fetched, "wrong_digest", "too_small", "fetched"]
    assert [row["attempts"] for row in found] == [1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 1]
    assert found[3]["http_status"] == 200
    assert {found[n]["sha256"] for n in (0, 3, 5)} == {hashlib.sha256(PICTURES[0]).hexdigest()}
    assert sum(sum(receipt[name] for name in ("fetched", "refused", "failed")) for receipt in receipts) == 11
    assert not fetch_all(tmp_path / "out", min_side=50)
    fetch_all(tmp_path / "out", ["fetch:status_404"])
    assert served.seen["/gone"] == 2


def test_what_is_to_be_fetched_is_counted_before(tmp_path, served):
    rows_ = [{"url": f"http://other.test/{n}", "width": 1} for n in range(2)]
    dump = write_table(tmp_path / "dump", served, [f"/{n}.jpg" for n in range(6)], rows_)
    recipe = recipes.load(str(light_recipe(tmp_path / "light.toml")), ["fetch.host_rate=2.0"])
    console = Console(file=io.StringIO(), width=200)
    found = preview([dump], tmp_path / "out", recipe, CurateOptions(), console, with_survey=True)
    assert found.survey.addresses == {"urls": 8, "hosts": 2, "hours": 6 / 2 / 3600, "megabytes": None}
    assert found.survey.video_hours is None
    print_preview(found, console)
    assert "8 URLs at 2 hosts, at least 0.00 hours" in console.file.getvalue()
    assert not served.requests
