"""What `curate` prints to run next fits what it made."""

import shlex
import shutil

import pytest
from dumps import small_run

from reelmill.pipelines.curate.next_steps import next_commands


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("made"))


def test_the_commands_fit_what_was_made_and_are_quoted(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "my clips")
    commands = [shlex.split(command) for command in next_commands(out)]
    assert all(str(out) in words for words in commands), "paths with spaces are quoted"
    assert commands[-1] == ["reelmill", "train", "tiny", "--data", str(out)]


def test_of_several_tokenizations_the_run_s_own_is_named(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    (own,) = (out / "tokens").iterdir()
    shutil.copytree(own, out / "tokens" / ("0" * 12))
    assert shlex.split(next_commands(out)[-1])[-2:] == ["--set", f"data.fingerprint={own.name}"]


def test_without_documents_there_is_no_training(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    shutil.rmtree(out / "tokens")
    shutil.rmtree(out / "checksums" / "tokens")
    assert [command.split()[1] for command in next_commands(out)] == ["sql", "verify"]
