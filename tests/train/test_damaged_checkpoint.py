"""Damaged checkpoints are seen, set aside and done without; one run in a folder at a time."""

import shutil
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from reelmill.errors import DataError, MachineError
from reelmill.locks import lock
from reelmill.pipelines.cli import app
from reelmill.train import checkpoint
from reelmill.train.manifest import MANIFEST, damage
from reelmill.train.run import train
from reelmill.train.saver import CheckpointConfig


@pytest.fixture
def config(toy_config):
    return replace(toy_config, steps=3, validate_every=3, checkpoint=CheckpointConfig(every=1))


@pytest.fixture
def undisturbed(run_folder, config, tmp_path):
    out = tmp_path / "undisturbed"
    train(config, [run_folder], out, log_fn=lambda _: None)
    return out


@pytest.fixture
def out(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "run")


def flip(path, place=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 4
    path.write_bytes(data)


def weights(out):
    return checkpoint.load_decoder(out / "checkpoints/step-000003")[0].state_dict()


def goes_on(out, run_folder, config):
    told = []
    train(config, [run_folder], out, log_fn=told.append)
    return "\n".join(told)


def test_a_flipped_bit_in_any_file_is_found(out):
    last = out / "checkpoints/step-000003"
    files = [path for path in last.rglob("*") if path.is_file()]
    assert {path.relative_to(last).parts[0] for path in files} == {"model", "optimizer", "state.json", MANIFEST}
    for path in files:
        whole = path.read_bytes()
        for place in (0, len(whole) // 3, len(whole) - 2):
            flip(path, place)
            assert damage(last), (path.name, place)
            path.write_bytes(whole)
        path.write_bytes(whole[:-1])
        assert damage(last)
        path.write_bytes(whole)
    assert damage(last) == []


@pytest.mark.parametrize("part", ["model", "optimizer", "state.json", MANIFEST])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_ends_as_it_would_have(
    out, undisturbed, run_folder, config, part
):
    last = out / "checkpoints/step-000003"
    flip(last / part if (last / part).is_file() else next((last / part).glob("*.safetensors")))
    told = goes_on(out, run_folder, config)
    assert f"{last} is damaged" in told and "set aside as step-000003.damaged" in told
    assert f"resumed from {out / 'checkpoints/step-000002'}" in told
    assert (out / "checkpoints/step-000003.damaged").is_dir()
    assert all(torch.equal(tensor, weights(undisturbed)[name]) for name, tensor in weights(out).items())
    assert damage(last) == []


def test_files_that_are_gone_are_damage_and_an_empty_folder_is_no_checkpoint(out, run_folder, config):
    shutil.rmtree(out / "checkpoints/step-000003/optimizer")
    (out / "checkpoints/step-000115").mkdir()
    told = goes_on(out, run_folder, config)
    assert "optimizer" in told and "resumed from" in told
    assert sorted(checkpoint.complete(out / "checkpoints")) == [1, 2, 3]


def test_a_checkpoint_without_its_state_is_damage_and_its_step_is_written_again(out, undisturbed, run_folder, config):
    (out / "checkpoints/step-000003/state.json").unlink()
    with pytest.raises(DataError, match=r"step-000003: state.json is gone"):
        CliRunner().invoke(app, ["verify", str(out)], catch_exceptions=False)
    told = goes_on(out, run_folder, config)
    assert "state.json is gone" in told and (out / "checkpoints/step-000003.damaged").is_dir()
    assert all(torch.equal(tensor, weights(undisturbed)[name]) for name, tensor in weights(out).items())


def test_nothing_is_drawn_from_a_damaged_model(out):
    last = out / "checkpoints/step-000003"
    flip(next((last / "model").glob("*.safetensors")))
    with pytest.raises(DataError, match="is damaged"):
        checkpoint.load_decoder(last)
    flip(next((last / "optimizer").glob("*.safetensors")))
    checkpoint.load_decoder(out / "checkpoints/step-000002")


def test_a_checkpoint_of_an_earlier_version_goes_on_with_a_word(out, undisturbed, run_folder, config):
    shutil.rmtree(out / "checkpoints/step-000003")
    (out / "checkpoints/step-000002" / MANIFEST).unlink()
    told = goes_on(out, run_folder, config)
    assert "is of an earlier version" in told and "resumed from" in told
    assert all(torch.equal(tensor, weights(undisturbed)[name]) for name, tensor in weights(out).items())


def test_without_a_manifest_what_cannot_be_loaded_is_said(out):
    last = out / "checkpoints/step-000003"
    (last / MANIFEST).unlink()
    [file] = (last / "model").glob("*.safetensors")
    whole = file.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        file.write_bytes(data)
        with pytest.raises(DataError, match="cannot be loaded"):
            checkpoint.load_decoder(last)


def test_verify_knows_training_runs(out):
    sound = CliRunner().invoke(app, ["verify", str(out)], catch_exceptions=False)
    assert sound.exit_code == 0 and "all sound" in sound.output
    path = next((out / "checkpoints/step-000002/optimizer").glob("*.safetensors"))
    flip(path)
    with pytest.raises(DataError, match=r"step-000002: optimizer/.* has other bytes than were written"):
        CliRunner().invoke(app, ["verify", str(out)], catch_exceptions=False)


def test_a_second_run_on_a_folder_is_refused_at_once(out, run_folder, config):
    with (out / ".lock").open("a") as handle:
        lock(handle, out)
        with pytest.raises(MachineError, match="another run is writing to"):
            goes_on(out, run_folder, config)
    goes_on(out, run_folder, config)
