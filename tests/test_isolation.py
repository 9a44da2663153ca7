"""A crash, a hang, a bomb or a lie costs one item, with the right class; the next item finds a working child."""

import pytest

from reelmill.config import to_dict
from reelmill.curation.scoring import DecodeConfig
from reelmill.isolation.messages import SAMPLES
from reelmill.isolation.parent import Child, IsolationConfig, ItemFailed
from reelmill.isolation.server import ENVIRONMENT, close_idle, give_back, take_server
from reelmill.media.source import Source

JOB = "faulty:expand"
OPTIONS = {**to_dict(DecodeConfig()), "scenes": {}}


@pytest.fixture(scope="module")
def child():
    with Child(IsolationConfig(stall_s=8.0, memory_mb=2048)) as made:
        yield made


def run(child, path):
    return [body["type"] for body, _ in child.run(JOB, Source(str(path), 0, path.stat().st_size), OPTIONS, SAMPLES)]


@pytest.mark.parametrize(
    ("order", "reason_class", "reason"),
    [
        ("SEGFAULT", "item", "decoder_crashed: signal SIGSEGV"),
        ("KILLED", "machine", "decoder_killed: signal SIGKILL"),
        ("MEMORY", "machine", "out_of_memory"),
        ("RAISE", "item", "decode_error: ValueError: decoder said no"),
        ("REFUSE", "item", "not_wanted: as asked"),
    ],
)
def test_a_fault_costs_one_item(child, tmp_path, order, reason_class, reason):
    bad, good = tmp_path / "bad.txt", tmp_path / "good.txt"
    bad.write_text(order)
    good.write_text("plain words")
    with pytest.raises(ItemFailed) as failed:
        run(child, bad)
    assert failed.value.reason_class == reason_class
    assert failed.value.reason.startswith(reason)
    assert run(child, good) == ["words", "sample", "item"]


def test_a_hang_costs_one_item(tmp_path):
    (tmp_path / "bad.txt").write_text("HANG")
    (tmp_path / "good.txt").write_text("plain words")
    config = IsolationConfig(stall_s=2.0, memory_mb=2048)
    with Child(config) as impatient:
        with pytest.raises(ItemFailed, match="timeout: no answer within stall_s = 2") as failed:
            run(impatient, tmp_path / "bad.txt")
        assert failed.value.reason_class == "machine"
        config.stall_s = 60.0  # a busy machine may take more than two seconds for this one
        assert run(impatient, tmp_path / "good.txt") == ["words", "sample", "item"]


def test_a_library_that_prints_breaks_nothing(child, tmp_path, capfd):
    (tmp_path / "noisy.txt").write_text("NOISE and words")
    assert run(child, tmp_path / "noisy.txt") == ["words", "sample", "item"]
    assert capfd.readouterr() == ("", "")


def test_a_job_that_is_no_module_is_the_machine_s_failure(tmp_path):
    (tmp_path / "good.txt").write_text("plain words")
    with Child(IsolationConfig()) as fresh, pytest.raises(ItemFailed) as failed:
        list(fresh.run("no_such_module:expand", Source(str(tmp_path / "good.txt"), 0, 11), OPTIONS, SAMPLES))
    assert failed.value.reason_class == "machine"


def test_a_failure_of_the_machine_is_tried_once_more(child, tmp_path):
    tries = []

    def take(messages):
        tries.append(None)
        return [body["type"] for body, _ in messages]

    for order, class_, count in (("KILLED", "machine", 2), ("RAISE", "item", 1)):
        tries.clear()
        (tmp_path / "bad.txt").write_text(order)
        with pytest.raises(ItemFailed) as failed:
            child.run_all(JOB, Source(str(tmp_path / "bad.txt"), 0, len(order)), OPTIONS, SAMPLES, take)
        assert (failed.value.reason_class, len(tries)) == (class_, count)


def test_the_child_inherits_no_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "bad.txt").write_text("ENVIRONMENT")
    with Child(IsolationConfig()) as fresh, pytest.raises(ItemFailed) as failed:
        run(fresh, tmp_path / "bad.txt")
    known = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONPATH", *ENVIRONMENT}
    assert not [name for name in failed.value.reason.split()[1:] if name not in known and not name.startswith("OPENCV")]


def test_an_abandoned_job_does_not_leak_into_the_next(child, tmp_path):
    good = tmp_path / "good.txt"
    good.write_text("plain words")
    abandoned = child.run(JOB, Source(str(good), 0, good.stat().st_size), OPTIONS, SAMPLES)
    next(abandoned)
    abandoned.close()
    assert run(child, good) == ["words", "sample", "item"]


def test_jobs_of_every_kind_share_a_server_and_jobs_at_a_time_do_not(child, tmp_path, monkeypatch):
    close_idle()
    (tmp_path / "good.txt").write_text("plain words")
    place = Source(str(tmp_path / "good.txt"), 0, 11)
    first = take_server(confine=True)
    give_back(first)
    assert run(child, tmp_path / "good.txt") == ["words", "sample", "item"]
    with pytest.raises(ItemFailed, match="device"):
        list(child.run("probing:try_act", place, {"act": "open files", "with": {}}, {}))
    held = take_server(confine=True)
    assert held is first
    other, unconfined = take_server(confine=True), take_server(confine=False)
    give_back(other)
    monkeypatch.setenv("LANG", "xx")
    elsewhere = take_server(confine=True)
    assert len({id(server) for server in (held, other, unconfined, elsewhere)}) == 4
    for server in (held, unconfined, elsewhere):
        server.close()


def test_a_server_that_has_died_is_not_asked_again(child, tmp_path):
    close_idle()
    dead = take_server(confine=True)
    give_back(dead)
    dead.close()
    (tmp_path / "good.txt").write_text("plain words")
    assert run(child, tmp_path / "good.txt") == ["words", "sample", "item"]


def test_a_member_of_a_tar_is_read_within_its_bounds(child, tmp_path):
    file = tmp_path / "both.bin"
    file.write_bytes(b"RAISE" + b"plain words" + b"RAISE")
    bodies = [body for body, _ in child.run(JOB, Source(str(file), 5, 11), OPTIONS, SAMPLES)]
    assert [body["type"] for body in bodies] == ["words", "sample", "item"]
