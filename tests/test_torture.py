"""The harness of `make torture`, and one try of each of its campaigns."""

import sys

import pytest
from torture import __main__ as torture
from torture.campaign import CAMPAIGNS, Tried, chance, groups, table, upper_bound


def test_a_try_is_a_function_of_its_seed():
    assert chance(1, "names", 2).random() == chance(1, "names", 2).random()
    assert (
        len({chance(*of).random() for of in ((1, "names", 2), (2, "names", 2), (1, "flips", 2), (1, "names", 3))}) == 4
    )


def test_zero_failures_in_n_tries_bound_the_rate_by_three_nths():
    assert upper_bound(300, 0) == 0.01 and upper_bound(300, 1) is None and upper_bound(0, 0) is None
    lines = table({"a": Tried(300), "b": Tried(10, ["x"])}, {"a": 2.0, "b": 1.0}).splitlines()
    assert lines[2:] == ["| a | 300 | 0 | 1 in 100 | 2 |", "| b | 10 | 1 | - | 1 |"]


def test_campaigns_are_dealt_evenly():
    one, other = groups([*CAMPAIGNS], 2)
    assert sorted(one + other) == sorted(CAMPAIGNS)
    assert abs(sum(CAMPAIGNS[name][1] for name in one) - sum(CAMPAIGNS[name][1] for name in other)) <= 1
    assert groups(["hostile names"], 8) == [["hostile names"]]


def test_children_and_clients_that_lie(tmp_path):
    found, _ = torture.at_once([["messages of a child"], ["requests to serve"]], 1, tmp_path, 600.0, number=0)
    for name in ("messages of a child", "requests to serve"):
        assert found[name].failures == [] and found[name].tries >= 20


def test_a_failure_ends_with_1_and_says_how_to_repeat_it(tmp_path, monkeypatch, capsys):
    from torture import messages

    monkeypatch.setattr(messages, "AT_A_TIME", 1)
    monkeypatch.setattr(messages, "told", lambda chance: 1 / 0)
    asked = ["torture", "--only", "messages of a child", "--seed", "7", "--try", "3", "--folder", str(tmp_path / "t")]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit) as ended:
        torture.main()
    assert ended.value.code == 1
    [line] = (tmp_path / "t" / "failures.txt").read_text().splitlines()
    assert line.startswith('python -m torture --seed 7 --only "messages of a child" --try 3: Traceback')
    assert "ZeroDivisionError" in line and line in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_each_campaign_tries_once(name, tmp_path):
    found, _ = torture.torment([name], 0, tmp_path, 600.0, number=0)
    assert found[name].tries > 0 and found[name].failures == []
