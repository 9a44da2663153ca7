"""The dataset card's header: what Hugging Face's libraries read of a run folder."""

import json
from pathlib import Path

import datasets
import duckdb
import pytest
from huggingface_hub import DatasetCard
from toy_run import reelmill

from reelmill.orchestration.runfolder import RunFolder
from reelmill.pipelines.ledger.verify import verify
from reelmill.pipelines.report import card


@pytest.fixture(scope="module")
def out(small_run, tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("hub"))


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


def load(out, cache, name=None):
    return datasets.load_dataset(str(out), name, split="train", cache_dir=str(cache))


def test_the_folder_loads_as_a_dataset(out, tmp_path):
    tokens = load(out, tmp_path)
    count = "SELECT count(*), sum(n_tokens) FROM tokens"
    with duckdb.connect(str(out / "reelmill.duckdb"), read_only=True) as connection:
        assert connection.execute(count).fetchall() == [(len(tokens), sum(tokens["n_tokens"]))]
        for table in ("samples", "items", "captions", "verdicts"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchall() == [
                (len(load(out, tmp_path, table)),)
            ]
    assert datasets.get_dataset_config_names(str(out)) == ["tokens", "samples", "items", "captions", "verdicts"]
    assert [len(row["tokens"]) for row in tokens] == tokens["n_tokens"][:]


def test_the_header_says_what_the_hub_asks_for(out):
    data = DatasetCard.load(out / "README.md").data
    assert data.license == "other"  # some items state none
    assert data.size_categories == ["n<1K"]
    assert data.task_categories == ["text-to-video", "text-to-image", "text-generation"]
    assert data.tags == ["reelmill", "vision-tokens", "image", "text", "video"]
    assert data.pretty_name == "out"


@pytest.mark.parametrize(
    ("licences", "said"),
    [
        (["CC0-1.0"], "cc0-1.0"),
        (["CC-BY-4.0", "MIT"], ["cc-by-4.0", "mit"]),
        (["MIT", "ask me: [no]"], "other"),
        ([None], "unknown"),
        ([None, "MIT"], "other"),
    ],
)
def test_licences_are_the_hub_s(tmp_path, licences, said):
    rows = [{"text": f"text {n}", "licence": licence} for n, licence in enumerate(licences)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = tmp_path / "it's: made"
    reelmill("tokens", "import", tmp_path / "rows.jsonl", "--out", made, "--tokenizer", "reelmill-tok-xs")
    data = DatasetCard.load(made / "README.md").data
    assert data.license == said
    assert data.pretty_name == "it's: made"
    assert len(load(made, tmp_path / "cache")) == len(rows)


def test_a_card_of_one_s_own_stays(out, tmp_path):
    path = Path(out / "README.md")
    written = path.read_text(encoding="utf-8")
    path.write_text("old numbers\n" + written, encoding="utf-8")
    card.refresh(RunFolder(out))
    assert path.read_text(encoding="utf-8") == written
    path.write_text("# Mine\n", encoding="utf-8")
    card.refresh(RunFolder(out))
    assert path.read_text(encoding="utf-8") == "# Mine\n"
    path.write_text(written, encoding="utf-8")
    assert verify(RunFolder(out)).problems == []
