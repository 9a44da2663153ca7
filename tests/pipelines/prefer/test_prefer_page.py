"""The voting page's server: blind, resumable, several voters at once, and nothing that a stranger sends breaks it."""

import contextlib
import json
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from candidates import write_folder
from web_server import running

from reelmill.eval.preference import Candidates, VoteFile, read_vote
from reelmill.pipelines.prefer import vote_page
from reelmill.pipelines.prefer.candidates import decode_pictures
from reelmill.pipelines.prefer.vote_page import Poll, vote_app
from reelmill.pipelines.web import Access, listen


@contextlib.contextmanager
def page(folder, mode="rate", token=None):
    listener, _ = listen("127.0.0.1", 0)
    with running(vote_app(Poll(Candidates(folder), mode), Access(token)), listener) as url:
        yield url


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    decode_pictures(write_folder(folder, prompts=("a", "b", "c"), count=3, checkpoints=("old", "new")))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "p"))


def ask(url, body=None, **headers):
    """(status, headers, what the JSON or file is)."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, {**kind, **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            content, status, found = answer.read(), answer.status, answer.headers
    except urllib.error.HTTPError as error:
        content, status, found = error.read(), error.code, error.headers
    return status, found, json.loads(content) if found["content-type"] == "application/json" else content


def task(url, voter, number=None):
    query = {"voter": voter} | ({} if number is None else {"number": number})
    status, _, found = ask(f"{url}/task?{urllib.parse.urlencode(query)}")
    assert status == 200, found
    return found


def answer(url, voter, found, appeal=3, alignment=3, others=None):
    """Vote on a task: the first candidate shown gets these, the others 3, or `others`."""
    others = others or (3, 3)
    given = [(appeal, alignment), *[others] * (len(found["candidates"]) - 1)]
    scores = [
        {"candidate_id": name, "appeal": a, "alignment": b}
        for name, (a, b) in zip(found["candidates"], given, strict=True)
    ]
    return ask(f"{url}/vote", {"voter": voter, "scores": scores})


def test_a_voter_goes_through_all_and_goes_on_after_a_restart(folder):
    with page(folder) as url:
        assert ask(f"{url}/poll")[2] == {"mode": "rate", "tasks": 3}
        first = task(url, "Ann")
        assert (first["number"], first["total"], first["done"], first["next"]) == (0, 3, 0, 1)
        assert (first["prompt"], len(first["candidates"]), first["scores"]) == ("a", 6, {})
        assert answer(url, "Ann", first, 5, 4)[0] == 201
        second = task(url, "Ann")
        assert (second["number"], second["done"]) == (1, 1)
    with page(folder) as url:
        assert task(url, "Ann") == second
        assert task(url, "Bob")["number"] == 0, "another voter begins at the beginning"
        again = task(url, " Ann ", 0)
        assert again["candidates"] == first["candidates"]
        assert again["scores"][first["candidates"][0]] == {"appeal": 5, "alignment": 4}
        for number in (1, 2):
            answer(url, "Ann", task(url, "Ann", number))
        assert task(url, "Ann") == {"total": 3, "done": 3, "number": None}
        answer(url, "Ann", again, 1, 2)
        assert task(url, "Ann", 0)["scores"][first["candidates"][0]] == {"appeal": 1, "alignment": 2}
    assert len(VoteFile(folder).read(Candidates(folder))) == 4


def test_nothing_tells_what_drew_a_picture(folder):
    candidates = Candidates(folder)
    secrets = [text for c in candidates.checkpoints for text in (c.place, "secret", c.weights, c.weights[:12])]
    with page(folder, "compare") as url:
        orders, names = set(), set()
        for voter in ("Ann", "Bob", "Cid", "Dan", "Eva", "Fay"):
            sides = []
            for number in range(9):
                found = task(url, voter, number)
                assert found.keys() == {"total", "done", "number", "prompt", "candidates", "scores", "next"}
                assert not any(secret in json.dumps(found) for secret in secrets)
                sides.append(candidates.by_id[found["candidates"][0]].weights)
                assert answer(url, voter, found, 1, 0.5, (0, 0.5))[0] == 201
                again = task(url, voter, number)
                assert list(again["scores"]) == again["candidates"] == found["candidates"]
                names |= set(found["candidates"])
            orders.add(tuple(sides))
            assert len(set(sides)) == 2, "neither checkpoint is always on the left"
        assert len(orders) == 6, "each voter has an order of their own"
        seen = set()
        for name in names:
            status, headers, content = ask(f"{url}/picture/{name}.png")
            assert (
                status == 200 and content.startswith(b"\x89PNG") and b"tEXt" not in content and b"iTXt" not in content
            )
            seen.add(tuple(sorted(key.lower() for key in headers)))
            assert not {"last-modified", "etag"} & {key.lower() for key in headers}
        assert len(seen) == 1 and len(names) == 18


def test_comparisons_are_of_the_same_number_and_may_be_alike(folder):
    candidates = Candidates(folder)
    with page(folder, "compare") as url:
        assert ask(f"{url}/poll")[2]["tasks"] == 9
        for number, (appeal, alignment) in enumerate([(1, 0), (0.5, 0.5), (0, 1)]):
            found = task(url, "Ann", number)
            one, other = (candidates.by_id[name] for name in found["candidates"])
            assert one.number == other.number and one.weights != other.weights and one.prompt_id == other.prompt_id
            assert answer(url, "Ann", found, appeal, alignment, (1 - appeal, 1 - alignment))[0] == 201
            assert task(url, "Ann", number)["scores"][one.id] == {"appeal": appeal, "alignment": alignment}
        assert task(url, "Ann")["number"] == 3
        assert answer(url, "Ann", task(url, "Ann"), 5, 5)[0] == 400, "no ratings here"


def test_several_voters_at_once_lose_nothing(folder):
    with page(folder) as url:

        def all_tasks(voter):
            for number in range(3):
                assert answer(url, voter, task(url, voter, number), 1 + number)[0] == 201

        threads = [threading.Thread(target=all_tasks, args=(f"voter {n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {task(url, f"voter {n}")["done"] for n in range(8)} == {3}
    votes = VoteFile(folder).read(Candidates(folder))
    assert len(votes) == 24 and len({(vote.voter, vote.prompt_id) for vote in votes}) == 24


def test_the_same_vote_again_is_stored_once(folder):
    with page(folder) as url:
        found = task(url, "Ann")
        assert [answer(url, "Ann", found)[0] for _ in range(3)] == [201] * 3
    assert len(VoteFile(folder).read(Candidates(folder))) == 1


def test_what_strangers_send_is_refused_and_nothing_is_stored(folder, monkeypatch):
    candidates = Candidates(folder)
    VoteFile(folder).add(
        [
            read_vote(
                {
                    "voter": "clip",
                    "kind": "score",
                    "scores": [{"candidate_id": next(iter(candidates.by_id)), "appeal": 0.1}],
                },
                candidates,
            )
        ]
    )
    before = (folder / "votes.jsonl").read_bytes()
    with page(folder) as url:
        found, other = task(url, "Ann", 0), task(url, "Ann", 1)
        whole = [{"candidate_id": name, "appeal": 3, "alignment": 3} for name in found["candidates"]]
        for scores in (
            whole[:5],
            [*whole[:5], {"candidate_id": other["candidates"][0], "appeal": 3, "alignment": 3}],
            [{**row, "appeal": 6} for row in whole],
            [{**row, "note": "<script>"} for row in whole],
            [{"candidate_id": row["candidate_id"], "appeal": 3} for row in whole],
            [*whole, whole[0]],
            [{"candidate_id": "none", "appeal": 3, "alignment": 3}], [{"candidate_id": "\ud800"}],
            [{}], [], "x", None, {"a": 1}, [[whole[0]]], 10**19,
        ):  # fmt: skip
            status, _, error = ask(f"{url}/vote", {"voter": "Ann", "scores": scores})
            assert status == 400 and "Traceback" not in error["error"]["message"], scores
            assert str(folder) not in error["error"]["message"], "no place of the server's is named"
        for voter in ("", " ", "x" * 65, "a\nb", None, 7, ["Ann"], "\u202e\x00", "\udc80"):
            assert ask(f"{url}/vote", {"voter": voter, "scores": whole})[0] == 400
        assert ask(f"{url}/vote", {"voter": "clip", "scores": whole})[0] == 409
        assert ask(f"{url}/task?voter=clip")[0] == 409
        assert ask(f"{url}/vote", b"{")[0] == 400
        assert ask(f"{url}/vote", b"[" * 60_000)[0] == 400
        assert ask(f"{url}/vote", b" " * (vote_page.MAX_BODY + 1))[0] == 413
        assert ask(f"{url}/vote", {"voter": "Ann", "scores": whole}, **{"Content-Type": "text/plain"})[0] == 415
        assert ask(f"{url}/vote", {"voter": "Ann", "scores": whole}, Origin="https://evil.test")[0] == 403
        for number in ("-1", "3", "x", "9" * 30, "1e3", "%D9%A3"):
            assert ask(f"{url}/task?voter=Ann&number={number}")[0] in (400, 404), number
        assert ask(f"{url}/task")[0] == 400
        for path in (
            "/picture/..%2F..%2Fvotes.jsonl.png",
            "/picture/x.png",
            "/votes.jsonl",
            "/../votes.jsonl",
            "/candidates",
        ):
            assert ask(f"{url}{path}")[0] == 404, path
        assert (folder / "votes.jsonl").read_bytes() == before
        monkeypatch.setattr(vote_page, "MAX_VOTERS", 2)
        assert ask(f"{url}/vote", {"voter": "Ann", "scores": whole})[0] == 201
        assert ask(f"{url}/vote", {"voter": "Bob", "scores": whole})[0] == 429


def test_a_token_is_asked_for_beyond_this_machine(folder):
    token = "a-token-of-thirty-two-characters"
    with page(folder, token=token) as url:
        for path in ("/", "/poll", "/task?voter=Ann", "/vote.js"):
            assert ask(f"{url}{path}")[0] == 401
        assert ask(f"{url}/poll", Authorization=f"Bearer {token}")[2]["tasks"] == 3


def test_the_page_s_files_are_there_and_hold_no_inline_code(folder):
    with page(folder) as url:
        status, headers, content = ask(url)
        assert status == 200 and headers["content-type"].startswith("text/html")
        text = content.decode()
        assert 'src="vote.js"' in text and "style=" not in text and "onclick" not in text and "http" not in text
        for name in ("vote.js", "vote.css"):
            assert ask(f"{url}/{name}")[0] == 200
