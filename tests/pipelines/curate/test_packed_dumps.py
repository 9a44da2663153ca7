"""Dumps that are packed, from the command to token shards: several places of several formats in one command."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dumps import curate_here, jpeg, light_recipe, scene_frames, write_video
from packed import write_tar, write_zip
from rich.console import Console
from warcs import page, record, write_warc

from reelmill.curation.readers import find_reader
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.api.run import open_run
from reelmill.pipelines.curate import recipes
from reelmill.pipelines.curate.dry_run import preview, print_preview
from reelmill.pipelines.curate.run import CurateOptions
from reelmill.pipelines.curate.survey import IMAGE_RATE, ROW_BYTES, TEXT_RATE, TEXT_SHARE, VIDEO_RATE

WORDS = "The mill grinds slowly, and the wind turns its sails. " * 9


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("packed")
    folder = root / "folder"
    folder.mkdir()
    video = write_video(root / "v.mp4", scene_frames([(1, 60)]), options={"crf": "24", "g": "24"})
    said = {"caption": "a texture drifts", "license": "CC0-1.0"}
    members = [("k/v.mp4", video.read_bytes()), ("k/v.json", json.dumps(said).encode())]
    write_tar(folder / "videos.tar.zst", [*members, ("i.jpg", jpeg(1))], "zst")
    write_zip(folder / "pictures.zip", [(f"{n}.jpg", jpeg(n)) for n in (2, 3)] + [("2.txt", b"a picture in a zip")])
    rows = [{"image": {"bytes": jpeg(n), "path": None}, "text": f"row {n}"} for n in (4, 5)]
    pq.write_table(pa.Table.from_pylist(rows), root / "pictures.parquet")
    lines = [json.dumps({"text": f"{WORDS} {n}", "url": f"https://x.test/{n}"}) for n in range(5)]
    (root / "texts.jsonl").write_text("\n".join(lines))
    head = "<link rel=license href=https://cc.test/by>"
    records = [
        record("https://x.test/page", page("Mills.", head)),
        record("https://x.test/p.jpg", jpeg(6), "image/jpeg"),
    ]
    write_warc(root / "crawl.warc.gz", records)
    return [folder, root / "pictures.parquet", root / "texts.jsonl", root / "crawl.warc.gz", video]


def test_all_of_it_in_one_command(places, tmp_path):
    out = tmp_path / "out"
    recipe = light_recipe(tmp_path / "recipe.toml")
    curate_here(places, out, recipe)
    with LedgerQueries(out) as ledger:
        items = ledger.rows("SELECT * FROM items ORDER BY uri")
        tokens = ledger.rows("SELECT DISTINCT uri FROM tokens")
    assert {item["status"] for item in items} == {"done"}, items
    assert len(items) == 2 + 2 + 2 + 5 + 2 + 1
    known = {item["uri"]: item for item in items}
    assert known["videos.tar.zst/k/v.mp4"]["alt"] == "a texture drifts"
    assert known["pictures.zip/2.jpg"]["alt"] == "a picture in a zip"
    assert known["pictures.parquet/00000001.jpg"]["alt"] == "row 5"
    crawled = [item for item in items if item["crawled"]]
    assert [item["url"] for item in crawled] == ["https://x.test/page", "https://x.test/p.jpg"]
    assert crawled[0]["licence"] == "https://cc.test/by"
    assert known["v.mp4"]["kind"] == "video"
    assert len(tokens) == len(items) - 1  # the video is there twice
    assert curate_here(places, out, recipe).count("0 new items") == len(places)
    run = open_run(out)
    (sample, *_) = run.sql("SELECT sample_id FROM samples WHERE uri = 'videos.tar.zst/k/v.mp4'").to_pylist()
    assert len(run.frames(sample["sample_id"]))


def test_plan_only_says_what_is_there(places, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and nothing more")
    loaded = recipes.load(str(light_recipe(tmp_path / "recipe.toml")))
    console = Console(file=io.StringIO(), width=200)
    dumps = [*places, tmp_path / "broken.zip"]
    found = preview(dumps, tmp_path / "out", loaded, CurateOptions(), console, with_survey=True)
    items = {(row["format"], row["kind"]): row["items"] for row in found.survey.formats}
    assert items == {
        (".tar.zst", "video"): 1,
        (".tar.zst", "image"): 1,
        (".zip", "image"): 2,
        (".parquet", "image"): 2,
        (".jsonl", "text"): 5,
        (".warc.gz", "text"): 1,
        (".warc.gz", "image"): 1,
        (".mp4", "video"): 1,
    }
    assert found.survey.refused == [{"reason": "corrupt_zip", "items": 1}]
    assert found.survey.video_hours == pytest.approx(2 * 60 / 24 / 3600, rel=0.1)
    pictures = sum(count for (_, kind), count in items.items() if kind == "image")
    seconds = 3600 * found.survey.video_hours * VIDEO_RATE + pictures * IMAGE_RATE
    assert found.survey.cpu_hours == pytest.approx(seconds / 3600)
    assert found.survey.languages == [{"language": "en", "texts": 5}, {"language": "unknown", "texts": 1}]
    print_preview(found, console)
    said = console.file.getvalue()
    assert "Refused unopened" in said and "of 6 texts that were looked into: en 5, unknown 1" in said
    assert not (tmp_path / "out").exists()


def test_plan_only_says_the_languages_of_texts_and_what_they_cost(tmp_path):
    said = {"en": WORDS, "de": "Die Mühle mahlt langsam, und der Wind dreht ihre Flügel. " * 9, "unknown": "12 34 56"}
    lines = [json.dumps({"text": text}) for text in said.values()] * 50
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    dumps, console = [tmp_path / "texts.jsonl"], Console(file=io.StringIO(), width=200)
    found = preview(dumps, tmp_path / "out", recipes.text(), CurateOptions(), console, with_survey=True).survey
    assert {row["language"]: row["texts"] for row in found.languages} == dict.fromkeys(said, 25)  # every second one
    megabytes = sum(row["megabytes"] for row in found.formats)
    assert found.cpu_hours * 3600 == pytest.approx(megabytes * TEXT_RATE, abs=0.05)  # megabytes are rounded
    assert found.disk_mb == pytest.approx((150 * ROW_BYTES) / 1e6 + TEXT_SHARE * megabytes, abs=0.05)


def test_a_single_file_takes_its_sidecars_and_nothing_else(tmp_path):
    for name in ("a.jpg", "a.json", "ab.jpg", "ab.json", "b.txt"):
        (tmp_path / name).write_bytes(b"{}")
    (item,) = find_reader(tmp_path / "a.jpg").items(tmp_path / "a.jpg")
    assert (item.uri, item.json.path, item.text) == ("a.jpg", str(tmp_path / "a.json"), None)
