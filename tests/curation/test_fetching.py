"""One address at a time, from a site on this machine: bytes come within bounds, or a reason says why not."""

import asyncio
import gzip
import hashlib
import ipaddress
import json
import os
import sys
import time

import pytest
from dumps import jpeg
from http2_site import CERTIFICATE, http2_site
from site_server import answer, site

from reelmill.curation.fetching import network
from reelmill.curation.fetching.addresses import address_of, why_not
from reelmill.curation.fetching.client import Client
from reelmill.curation.fetching.config import FetchConfig
from reelmill.curation.fetching.outcome import NotFetched, Wanted
from reelmill.curation.fetching.reservations import fits
from reelmill.isolation import landlock

PICTURE = jpeg(1)


def fetch(folder, *urls, digest=None, together=True, **options):
    """What became of the URLs, bodies as bytes in `data`."""
    quick = {"allow_private": True, "backoff_s": 0.01, "host_rate": 0.0, "first_byte_s": 5.0, "robots": False}
    quick["opt_outs"] = False

    async def run():
        async with Client(FetchConfig(**{**quick, **options}), folder) as client:
            wanted = [url if isinstance(url, Wanted) else Wanted(url, digest) for url in urls]
            if together:
                return await asyncio.gather(*map(client.fetch, wanted))
            return [await client.fetch(one) for one in wanted]

    found = asyncio.run(asyncio.wait_for(run(), 60))
    for one in found:
        one.data = None
        if one.body is not None:
            one.body.file.seek(0)
            one.data = one.body.file.read()
            one.body.close()
    return found


def keyword(found):
    return (found.reason or "").partition(":")[0]


def test_bytes_come_with_what_is_said_of_them(tmp_path):
    said = {"ETag": '"a"', "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Content_Type": "text/html"}
    link = '<https://creativecommons.org/licenses/by/4.0/>; rel="license", </feed>; rel=alternate'
    pages = {
        "/a.jpg": answer(PICTURE, **said, Link=link),
        "/moved": answer(b"", 302, Location="b?c=d é"),
        "/b?c=d%20%C3%A9": answer(PICTURE),
        "/big": answer(PICTURE + bytes(3_000_000)),
    }
    with site(pages) as served:
        first, moved, big = fetch(tmp_path, *(f"{served.url}{path}" for path in ("/a.jpg", "/moved", "/big")))
        assert not list(tmp_path.iterdir())
    assert (first.outcome, first.data, first.suffix, first.attempts) == ("fetched", PICTURE, ".jpg", 1)
    assert (first.said.etag, first.said.content_type) == ('"a"', "text/html")  # the bytes say what it is
    assert first.said.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert first.body.digest() == hashlib.sha256(PICTURE).hexdigest()
    assert (moved.data, moved.said.http_status) == (PICTURE, 200)
    assert len(big.data) == len(PICTURE) + 3_000_000


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "scheme"),
        ("ftp://127.0.0.1/a.jpg", "scheme"),
        ("data:image/png;base64,AAAA", "scheme"),
        ("a.jpg", "scheme"),
        ("http://user:secret@127.0.0.1/a.jpg", "credentials"),
        ("http://token@127.0.0.1/a.jpg", "credentials"),
        ("http://", "malformed_url"),
        ("http://[::1", "malformed_url"),
        ("http://127.0.0.1:99999/", "malformed_url"),
        ("http://127.0.0.1/a\r\nX-Evil: 1", "malformed_url"),
        ("http://127.0.0.1/" + "a" * 9000, "malformed_url"),
        ("http://a..b/", "malformed_url"),
        ("http://" + "é" * 300 + "/", "malformed_url"),
    ],
)
def test_what_is_no_address_to_fetch_is_refused(tmp_path, url, reason):
    (found,) = fetch(tmp_path, url)
    assert (found.outcome, keyword(found), found.attempts) == ("refused", reason, 1)
    assert "secret" not in found.reason


PRIVATE = """127.0.0.1 127.9.9.9 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 100.100.100.200
    192.0.0.192 168.63.129.16 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 fe80::1 fc00::1 fd00:ec2::254
    ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: 2001:0:7f00:1::80ff:fffe
    2001:db8::1"""
PUBLIC = "1.1.1.1 8.8.8.8 93.184.216.34 2606:4700::1111 64:ff9b::101:101 ::ffff:1.1.1.1"


def test_only_public_addresses_are_connected_to():
    assert [ip for ip in PRIVATE.split() if why_not(ipaddress.ip_address(ip)) is None] == []
    assert [ip for ip in PUBLIC.split() if why_not(ipaddress.ip_address(ip))] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:7f00:1]"])
def test_this_machine_is_not_reached(tmp_path, host):
    with site({"/": answer(PICTURE)}) as served:
        (found,) = fetch(tmp_path, f"http://{host}:{served.port}/", allow_private=False)
    assert (found.outcome, keyword(found)) == ("refused", "private_address")
    assert not served.requests


def lookups(monkeypatch, names):
    """Names with their addresses, one list for each time that they are looked up; returns how often they were."""
    asked = []

    async def getaddrinfo(self, host, port, **_):
        asked.append(host)
        known = names.get(host, [[host]])
        found = known[min(asked.count(host), len(known)) - 1]
        return [(0, 0, 0, "", (ip, 0)) for ip in found]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return asked


def test_a_redirect_to_a_private_address_is_refused(tmp_path, monkeypatch):
    """The first host is let through as if it were public; where it leads to is checked all the same."""
    lookups(monkeypatch, {"outside.test": [["127.0.0.1"]], "inside.test": [["10.0.0.1"]], "both": [["1.1.1.1", "::1"]]})
    monkeypatch.setattr(network, "why_not", lambda ip: None if str(ip) == "127.0.0.1" else why_not(ip))
    with site({}) as served:
        served.pages |= {
            f"/{n}": answer(b"", 302, Location=to)
            for n, to in enumerate(
                ("http://inside.test/", "http://[::1]/", "http://169.254.169.254/latest/", "http://both/")
            )
        }
        served.pages["/9"] = answer(b"", 301, Location="file:///etc/passwd")
        found = fetch(
            tmp_path, *(f"http://outside.test:{served.port}/{n}" for n in (0, 1, 2, 3, 9)), allow_private=False
        )
    assert [keyword(one) for one in found] == ["private_address"] * 4 + ["scheme"]


def test_what_was_checked_is_what_is_connected_to(tmp_path, monkeypatch):
    """A name that answers with a public address first and a private one later is looked up once."""
    asked = lookups(monkeypatch, {"rebind.test": [["127.0.0.1"], ["10.0.0.1"]]})
    monkeypatch.setattr(network, "why_not", lambda ip: None if str(ip) == "127.0.0.1" else why_not(ip))
    pages = {f"/{n}": answer(PICTURE, Connection="close") for n in range(20)}
    with site(pages) as served:
        urls = [f"http://rebind.test:{served.port}/{n}" for n in range(20)]
        found = fetch(tmp_path, *urls, allow_private=False)
    assert {one.outcome for one in found} == {"fetched"}
    assert asked == ["rebind.test"]
    assert {headers["host"] for _, headers in served.requests} == {f"rebind.test:{served.port}"}


async def drip(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + PICTURE[:10])
    while True:
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(b"x")


async def silent(writer):
    await asyncio.sleep(30)


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%s\r\n" % (len(PICTURE), PICTURE))
    while True:
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


async def endless_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def hang_up(writer):
    writer.transport.abort()


async def babble(writer):
    writer.write(b"\x00\x01\x02 what is HTTP?\r\n\r\n")
    await writer.drain()


HOSTILE = {
    "/drip": (drip, "timeout"),
    "/silent": (silent, "timeout"),
    "/endless": (endless, "too_large"),
    "/endless_head": (endless_head, "broken"),
    "/hang_up": (hang_up, "broken"),
    "/babble": (babble, "broken"),
    "/loop": (answer(b"", 302, Location="/loop"), "redirects"),
    "/nowhere": (answer(b"", 302), "redirects"),
    "/short": (answer(PICTURE, Content_Length=len(PICTURE) + 10, Connection="close"), "truncated"),
    "/huge": (answer(PICTURE, Content_Length=10**15), "too_large"),
    "/bomb": (answer(gzip.compress(bytes(5_000_000)), Content_Encoding="gzip"), "encoded"),
    "/page": (answer(b"<html>parked</html>", Content_Type="image/jpeg"), "not_media"),
    "/empty": (answer(b""), "empty"),
    "/gone": (answer(b"", 410), "status_410"),
    "/broken": (answer(b"", 500), "status_500"),
    "/unasked": (answer(b"", 304), "status_304"),
}


def test_hosts_that_answer_wrongly_cost_their_own_address(tmp_path):
    pages = {path: page for path, (page, _) in HOSTILE.items()} | {"/a.jpg": answer(PICTURE)}
    with site(pages) as served:
        urls = [f"{served.url}{path}" for path in [*HOSTILE, "/a.jpg"]]
        began = time.monotonic()
        *found, sound = fetch(tmp_path, *urls, first_byte_s=0.5, total_s=1.0, max_mb=1.0, tries=2, per_host=32)
    assert {path: keyword(one) for path, one in zip(HOSTILE, found, strict=True)} == {
        path: reason for path, (_, reason) in HOSTILE.items()
    }
    assert sound.data == PICTURE
    assert time.monotonic() - began < 30
    assert not list(tmp_path.iterdir())


def test_what_is_transient_is_tried_again_and_nothing_else(tmp_path):
    busy = answer(b"", 503, Retry_After="0")
    pages = {
        "/soon": [busy, busy, answer(PICTURE)],
        "/cut": [answer(PICTURE, Content_Length=len(PICTURE) + 9, Connection="close"), answer(PICTURE)],
        "/never": answer(b"", 429),
        "/gone": answer(b"", 404),
        "/long": answer(b"", 503, Retry_After="3600"),
    }
    with site(pages) as served:
        urls = [f"{served.url}{path}" for path in pages]
        soon, cut, never, gone, long = fetch(tmp_path, *urls, together=False, tries=4)
        (after,) = fetch(tmp_path, f"{served.url}/soon", tries=4)
    assert [one.outcome for one in (soon, cut, never, gone, long)] == ["fetched", "fetched", *["failed"] * 3]
    assert [one.attempts for one in (soon, cut, never, gone, long)] == [3, 2, 4, 1, 1]
    assert after.data == PICTURE


def test_a_host_that_wants_to_be_left_alone_is(tmp_path):
    pages = {"/busy": answer(b"", 429, Retry_After="3600"), "/a.jpg": answer(PICTURE)}
    with site(pages) as served:
        busy, other = fetch(tmp_path, f"{served.url}/busy", f"{served.url}/a.jpg", together=False)
    assert (keyword(busy), keyword(other)) == ("status_429", "busy")
    assert served.seen["/a.jpg"] == 0


def test_a_host_is_asked_at_its_pace(tmp_path):
    pages = {f"/{n}": answer(PICTURE) for n in range(12)}
    with site(pages) as served:
        urls = [f"{served.url}/{n}" for n in range(12)]
        began = time.monotonic()
        found = fetch(tmp_path, *urls, host_rate=20.0)
        took = time.monotonic() - began
        assert {one.outcome for one in found} == {"fetched"}
        assert took >= 11 / 20
        served.most = 0
        fetch(tmp_path, *urls, per_host=2)
        assert served.most <= 2


def test_a_host_that_is_down_is_not_tried_for_ever(tmp_path):
    with site({}) as served:
        pass
    found = fetch(tmp_path, *(f"{served.url}/{n}" for n in range(40)), tries=1, per_host=4)
    assert {keyword(one) for one in found} == {"connect"}
    assert sum("not tried" in one.reason for one in found) >= 20


def test_wishes_in_headers_are_heard_and_recorded(tmp_path):
    pages = {
        "/ai": answer(PICTURE, X_Robots_Tag="noindex, noai"),
        "/image": answer(PICTURE, X_Robots_Tag="noimageai"),
        "/theirs": answer(PICTURE, X_Robots_Tag="otherbot: noai, noindex"),
        "/ours": answer(PICTURE, X_Robots_Tag="otherbot: noindex, reelmill: noai"),
        "/dated": answer(PICTURE, X_Robots_Tag="unavailable_after: 25 Jun 2030, noai"),
        "/tdm": answer(PICTURE, tdm_reservation="1", tdm_policy="https://x.test/policy"),
        "/free": answer(PICTURE, tdm_reservation="0"),
    }
    with site(pages) as served:
        urls = [f"{served.url}{path}" for path in pages]
        found, anyway = fetch(tmp_path, *urls, opt_outs=True), fetch(tmp_path, *urls)
    assert [keyword(one) for one in found] == ["opted_out", "opted_out", "", "opted_out", "opted_out", "opted_out", ""]
    assert {one.outcome for one in anyway} == {"fetched"}
    assert [one.said.tdm_reservation for one in anyway[-2:]] == ["1", "0"]
    assert anyway[0].said.robots_tag == "noindex, noai"


RESERVED = [
    {"location": "/free/*.jpg$", "tdm-reservation": 0},
    {"location": "/images/private*", "tdm-reservation": 1, "tdm-policy": "https://x.test/policy.json"},
    {"location": "/images", "tdm-reservation": "0"},
    {"location": "/free", "tdm-reservation": 1},
    {"location": 7, "tdm-reservation": 1},
    "nonsense",
]


def test_what_an_origin_reserves_is_asked_once_and_not_fetched(tmp_path):
    paths = {
        "/images/private/a.jpg": "opted_out",
        "/images/a.jpg": "",
        "/free/a.jpg": "",
        "/free/a.jpg.png": "opted_out",
    }
    file = "/.well-known/tdmrep.json"
    with site({file: answer(json.dumps(RESERVED).encode()), **dict.fromkeys(paths, answer(PICTURE))}) as served:
        urls = [f"{served.url}{path}" for path in paths]
        found = fetch(tmp_path, *urls, *urls, opt_outs=True)
        anyway = fetch(tmp_path, *urls)
    assert [keyword(one) for one in found] == [*paths.values()] * 2
    assert "reserves /images/private*" in found[0].reason
    assert {one.outcome for one in anyway} == {"fetched"}
    assert served.seen[file] == 1
    assert served.seen["/images/private/a.jpg"] == 1  # by `anyway` alone


@pytest.mark.parametrize(
    "body", [b"", b"[", b"[" * 100_000, b"{}", b"\xff\xfe", b'[{"location": "/"}]', b" " * 600_000]
)
def test_a_reservation_that_is_none_reserves_nothing(tmp_path, body):
    with site({"/.well-known/tdmrep.json": answer(body), "/a.jpg": answer(PICTURE)}) as served:
        (found,) = fetch(tmp_path, f"{served.url}/a.jpg", opt_outs=True)
    assert found.outcome == "fetched"


@pytest.mark.parametrize(
    ("pattern", "path", "does"),
    [
        ("/", "/a", True), ("/a$", "/a", True), ("/a$", "/ab", False), ("/*/c", "/a/b/c/d", True),
        ("*.png$", "/a.png", True), ("*.png$", "/a.png.png", True), ("*a*a$", "/a", False), ("", "/x", True),
    ],
)  # fmt: skip
def test_patterns_of_reservations(pattern, path, does):
    assert fits(pattern, path) == does


ROBOTS = b"User-agent: *\nDisallow: /private\nCrawl-delay: 0.2\n\nUser-agent: reelmill\nDisallow: /no\n" + (
    b"Disallow: /" + b"*a" * 200 + b"$\n"
)


def test_robots_are_asked_once(tmp_path):
    paths = ("/yes/a", "/no/a", "/private/a", "/" + "a" * 2000)  # the last fits a rule of many wildcards, cut
    pages = {"/robots.txt": answer(ROBOTS), **dict.fromkeys(paths, answer(PICTURE))}
    with site(pages) as served:
        urls = [f"{served.url}{path}" for path in list(pages)[1:]] * 3
        found = fetch(tmp_path, *urls, robots=True)
        named = fetch(tmp_path, *urls[:3], robots=True, user_agent="other/1", total=1)
    assert [keyword(one) for one in found[:4]] == ["", "robots", "", "robots"]
    assert [keyword(one) for one in named] == ["", "", "robots"]
    assert served.seen["/robots.txt"] == 2
    assert served.seen["/no/a"] == 1


@pytest.mark.parametrize(
    ("robots", "outcome"),
    [
        (answer(b"", 404), "fetched"),
        (answer(b"", 403), "fetched"),
        (answer(b"", 500), "refused"),
        (answer(b"\xff\xfe\x00 binary \x00" * 100_000), "fetched"),
        (answer(b"", 302, Location="/robots.txt"), "fetched"),
    ],
)
def test_robots_that_cannot_be_had(tmp_path, robots, outcome):
    with site({"/robots.txt": robots, "/a.jpg": answer(PICTURE)}) as served:
        (found,) = fetch(tmp_path, f"{served.url}/a.jpg", robots=True, tries=1)
    assert found.outcome == outcome


def test_bytes_that_the_table_does_not_mean(tmp_path):
    right = hashlib.md5(PICTURE).hexdigest()
    with site({"/a.jpg": answer(PICTURE)}) as served:
        url = f"{served.url}/a.jpg"
        (wrong,) = fetch(tmp_path, url, digest="sha256:" + "0" * 64)
        (unchecked,) = fetch(tmp_path, url, digest="sha256:" + "0" * 64, check_digest=False)
        (same,) = fetch(tmp_path, url, digest=f"md5:{right}")
    assert (keyword(wrong), unchecked.outcome, same.outcome) == ("wrong_digest", "fetched", "fetched")


def test_asked_again_only_what_changed_is_sent(tmp_path):
    with site({"/a.jpg": answer(b"", 304)}) as served:
        (found,) = fetch(tmp_path, Wanted(f"{served.url}/a.jpg", etag='"x"', last_modified="yesterday"))
    assert found.outcome == "unchanged"
    _, headers = served.requests[0]
    assert (headers["if-none-match"], headers["if-modified-since"]) == ('"x"', "yesterday")


def test_addresses_as_they_are_written():
    def target(url):
        address = address_of(url)
        return f"{address.origin}{address.target}"

    assert target(" HTTP://Bücher.Example:80/a b?q=ü#part ") == "http://xn--bcher-kva.example/a%20b?q=%C3%BC"
    assert target("https://[2606:4700::1111]:8443/%41/../x") == "https://[2606:4700::1111]:8443/%41/../x"
    with pytest.raises(NotFetched):
        address_of("javascript:alert(1)")


PROGRAM = """
import os, pathlib, sys, time
url = sys.argv[-1]
name = url.rpartition("/")[2]
if name == "fails":
    sys.exit("no such video")
if name == "sleeps":
    os.fork()
    time.sleep(60)
if name == "large":
    with open("v.jpg", "wb") as file:
        while True:
            file.write(bytes(1 << 16))
if name == "escapes":
    try:
        pathlib.Path(os.environ["PATH"].partition(":")[0], "caught").write_text("out")
    except OSError as error:
        sys.exit(f"fenced: {error.strerror}")
if name == "links":
    os.symlink("/etc/passwd", "v.jpg")
    sys.exit(0)
pathlib.Path("notes.txt").write_text(url + os.environ.get("SECRET", "") + os.getcwd())
pathlib.Path("sub").mkdir()
pathlib.Path("sub/v.jpg").write_bytes(pathlib.Path(sys.argv[1]).read_bytes())
"""


def test_a_program_brings_what_http_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "secret")
    outside = tmp_path / "bin"
    outside.mkdir()
    monkeypatch.setenv("PATH", f"{outside}:{os.environ['PATH']}")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "a.jpg").write_bytes(PICTURE)
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "a.jpg")]
    lookups(monkeypatch, {"videos.localhost": [["127.0.0.1"]]})
    names = ("fine", "fails", "large", "links", "escapes")
    with site({"/plain.jpg": answer(PICTURE)}) as served:
        urls = [*(f"http://videos.localhost/{name}" for name in names), f"{served.url}/plain.jpg"]
        options = {"command": command, "command_hosts": ["localhost"], "command_jobs": 8}
        *found, plain = fetch(work, *urls, max_mb=0.5, **options)
        (missing,) = fetch(work, urls[0], command=["no-such-program"])
        (slow,) = fetch(work, "http://videos.localhost/sleeps", **options, command_s=1.0)
    print([one.reason for one in found])
    assert [keyword(one) for one in found[:4]] == ["", "command", "command", "not_media"]
    assert keyword(slow) == "timeout"
    assert (found[0].data, found[0].suffix, plain.data) == (PICTURE, ".jpg", PICTURE)
    assert "no such video" in found[1].reason
    assert "cannot be started" in missing.reason
    if landlock.abi():
        assert "fenced: Permission denied" in found[4].reason
        assert not list(outside.iterdir())
    assert not list(work.iterdir())
    (refused,) = fetch(work, "http://videos.localhost/fine", allow_private=False, **options)
    assert keyword(refused) == "private_address"


def test_many_requests_share_a_connection_of_http_2(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    small = PICTURE[:50_000]
    with http2_site({f"/{n}": small + bytes([n]) for n in range(12)}) as served:
        found = fetch(tmp_path, *(f"{served.url}/{n}" for n in range(13)), per_host=6)
    assert [one.data for one in found[:12]] == [small + bytes([n]) for n in range(12)]
    assert (keyword(found[12]), found[0].said.etag) == ("status_404", '"2"')
    assert served.connections <= 6 < len(served.paths)


def test_a_certificate_that_nobody_vouches_for(tmp_path):
    with http2_site({"/a": PICTURE}) as served:
        (found,) = fetch(tmp_path, f"{served.url}/a")
    assert (keyword(found), found.outcome, found.attempts, served.paths) == ("tls", "failed", 1, [])
