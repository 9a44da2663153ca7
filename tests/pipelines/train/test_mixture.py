"""`train --data "FOLDER WHERE …"`: a part of a run folder, chosen by what its ledger says."""

import subprocess
import sys

import pytest
from toy_run import reelmill

import reelmill as product
from reelmill.errors import ConfigError, DataError
from reelmill.pipelines.train.mixture import chosen
from reelmill.tokenize.shards import ShardIndex
from reelmill.train.data.config import DataConfig
from reelmill.train.data.corpus import Corpus

RECIPE = """
steps = 1
device = "cpu"
precision = "float32"
model = {hidden = 16, layers = 1, heads = 2, kv_heads = 1, mlp = 24}
data = {context = 64, batch_rows = 1, heldout = 0.0}
"""


@pytest.fixture(scope="module")
def run(still_run, tmp_path_factory):
    return still_run(tmp_path_factory.mktemp("run"))


def samples_of(folders, selections):
    corpus = Corpus(folders, selections, DataConfig(heldout=0.0))
    assert len(corpus) > 0
    return [
        sorted(ShardIndex(folder, selection=chosen).strings("sample_id"))
        for folder, chosen in zip(folders, selections, strict=True)
    ]


def test_each_folder_gives_what_its_condition_says(run):
    kept = product.open_run(run).sql("SELECT sample_id, kind FROM samples WHERE status = 'kept' ORDER BY 1").to_pylist()
    kinds = {kind: [row["sample_id"] for row in kept if row["kind"] == kind] for kind in ("text", "image")}
    assert all(kinds.values())
    conditions = ["kind = 'text' -- a remark", "kind = 'image' OR kind = 'video'"]
    found = samples_of([run, run], chosen([run, run], conditions, "default"))
    assert found == [kinds["text"], kinds["image"]]
    whole, some = samples_of([run, run], chosen([run, run], ["", "kind = 'text'"], "default"))
    assert whole == sorted(kinds["text"] + kinds["image"]) and some == kinds["text"]


def test_of_all_documents_or_of_a_selection(run):
    everything, kept = (chosen([run], ["kind = 'image'"], name)[0].to_pylist() for name in (None, "default"))
    assert set(kept) < set(everything)


def test_the_command_trains_on_the_part(run, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    counted = {}
    for name, condition in {"all": "", "texts": " WHERE kind = 'text'", "part": "=0.5 where length(uri) > 0"}.items():
        said = reelmill("train", tmp_path / "recipe.toml", "--data", f"{run}{condition}", "--check-data")
        counted[name] = int(said.split(" documents")[0].split()[-1])
    assert 0 < counted["texts"] < counted["all"] == counted["part"]
    out = tmp_path / "trained"
    reelmill("train", tmp_path / "recipe.toml", "--data", f"{run} WHERE kind = 'text'", "--out", out)
    with pytest.raises(ConfigError, match="changed since: the training data"):
        reelmill("train", tmp_path / "recipe.toml", "--data", run, "--out", out, "--set", "steps=2")


def test_what_cannot_be_asked_is_said_with_the_folder(run):
    with pytest.raises(ConfigError, match=r"WHERE widht > 1: the query failed: .*widht"):
        chosen([run], ["widht > 1"], "default")
    with pytest.raises(DataError, match="that holds of no sample that the selection default keeps"):
        chosen([run], ["kind = 'audio'"], "default")
    with pytest.raises(ConfigError, match="one SELECT is allowed"):
        chosen([run], ["1=1); DELETE FROM samples; SELECT (1"], "default")


def test_without_duckdb_it_says_what_to_do(run):
    script = (
        "import sys; sys.modules['duckdb'] = None\n"
        "from pathlib import Path\n"
        "from reelmill.pipelines.train.mixture import chosen\n"
        f"print(chosen([Path({str(run)!r})], [''], 'default'))\n"
        f"chosen([Path({str(run)!r})], ['true'], 'default')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['default']"
    assert "duckdb is not installed" in done.stderr and "--selection" in done.stderr
