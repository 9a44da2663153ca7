"""Dumps at an address: copied once, gone on with where a copy was cut off, read like any dump."""

import io
import tarfile
import zipfile

import pytest
from dumps import curate_here, jpeg, light_recipe
from moto_store import moto_store
from objects import objects
from rich.console import Console

from reelmill.errors import ConfigError, DataError
from reelmill.orchestration.views import LedgerQueries
from reelmill.pipelines.curate import recipes, remote
from reelmill.pipelines.curate.dry_run import preview, print_preview
from reelmill.pipelines.curate.remote import copied, is_remote, objects_at
from reelmill.pipelines.curate.run import CurateOptions

PICTURES = [jpeg(n) for n in range(3)]
QUIET = Console(file=io.StringIO())


def packed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for n, data in enumerate(PICTURES):
            archive.writestr(f"{n}.jpg", data)
    return buffer.getvalue()


@pytest.fixture
def bucket(monkeypatch):
    files = {f"crawl/day 1/{n}.jpg": data for n, data in enumerate(PICTURES)}
    files |= {"crawl/day 1/sub/a.txt": b"The mill grinds slowly. " * 20, "crawl/other.jpg": PICTURES[0]}
    with objects(files) as store:
        settings = {"ENDPOINT": store.url, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "here"}
        for name, value in {**settings, "ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield store


def read(store):
    return [path for command, path, _ in store.requests if command == "GET" and path in store.files]


def test_a_prefix_of_a_bucket_is_a_dump(tmp_path, bucket):
    out = tmp_path / "out"
    said = curate_here(["s3://crawl/day 1"], out, light_recipe(tmp_path / "light.toml"))
    assert "4 objects" in said
    with LedgerQueries(out.resolve()) as ledger:
        items = ledger.rows("SELECT uri, status FROM items ORDER BY uri")
    assert [(row["uri"], row["status"]) for row in items] == [
        *((f"{n}.jpg", "done") for n in range(3)),
        ("sub/a.txt", "done"),
    ]
    assert len(read(bucket)) == 4
    bucket.files["crawl/day 1/3.jpg"] = jpeg(9)
    assert "1 read now" in said_by_copy("s3://crawl/day 1", out)
    assert len(read(bucket)) == 5


def said_by_copy(place, out):
    console = Console(file=io.StringIO(), width=200)
    copied(place, out, console)
    return console.file.getvalue()


def test_plan_only_looks_into_a_part(tmp_path, bucket, monkeypatch):
    names = [f"crawl/many/{n}.txt" for n in range(40)]
    bucket.files |= dict.fromkeys(names, b"The mill grinds slowly, and the wind turns its sails. " * 40)
    monkeypatch.setattr(remote, "LOOKED_OBJECTS", 10)
    console = Console(file=io.StringIO(), width=200)
    loaded = recipes.load(str(light_recipe(tmp_path / "light.toml")))
    places = ["s3://crawl/many", "s3://crawl/day 1"]
    found = preview(places, tmp_path / "out", loaded, CurateOptions(), console, with_survey=True)
    assert len(read(bucket)) == 10 + 4
    assert found.at_addresses[places[0]].formats == [{"format": ".txt", "kind": "text", "items": 40, "megabytes": 0.1}]
    assert found.at_addresses[places[0]].languages == [{"language": "en", "texts": 10}]
    assert {row["kind"]: row["items"] for row in found.at_addresses[places[1]].formats} == {"image": 3, "text": 1}
    print_preview(found, console)
    assert "10 of them, 0.0 MB, were looked into" in console.file.getvalue()
    assert not (tmp_path / "out").exists()


def test_plan_only_looks_into_the_beginning_of_an_archive(tmp_path, bucket, monkeypatch):
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for n in range(50):
            member = tarfile.TarInfo(f"{n}.jpg")
            member.size = len(PICTURES[0])
            archive.addfile(member, io.BytesIO(PICTURES[0]))
    whole = tar.getvalue()
    bucket.files["crawl/large/a.tar"] = whole
    monkeypatch.setattr(remote, "LOOKED_BYTES", len(whole) // 5)
    loaded = recipes.load(str(light_recipe(tmp_path / "light.toml")))
    found = preview(["s3://crawl/large"], tmp_path / "out", loaded, CurateOptions(), QUIET, with_survey=True)
    (there,) = found.at_addresses.values()
    assert [(row["format"], row["kind"]) for row in there.formats] == [(".tar", "image")]
    assert there.formats[0]["items"] == pytest.approx(50, abs=6)
    assert there.refused == []
    assert "of one were looked into" in found.plan["s3://crawl/large"]


def test_one_object(tmp_path, bucket):
    path = copied("s3://crawl/other.jpg", tmp_path, QUIET)
    assert (path.name, path.read_bytes()) == ("other.jpg", PICTURES[0])


def test_an_archive_by_http_that_is_cut_off_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "CHUNK", 1000)
    data = packed()
    with objects({"a/crawl.zip": data}) as store:
        place = f"{store.url}/a/crawl.zip"
        (found,) = objects_at(place)
        assert (found.path, found.size) == ("crawl.zip", len(data))
        store.cut, store.gives = len(data) // 2, 1
        with pytest.raises(DataError):
            copied(place, tmp_path, QUIET)
        store.cut = store.gives = None
        before = len(store.requests)
        path = copied(place, tmp_path, QUIET)
        ranges = [wanted for command, _, wanted in store.requests[before:] if command == "GET"]
        assert path.read_bytes() == data
        assert len(ranges) == 1 and ranges[0] is not None
        store.files["a/crawl.zip"] = data + b"more"
        assert copied(place, tmp_path, QUIET).read_bytes() == data + b"more"
        assert [entry.name for entry in path.parent.iterdir()] == ["crawl.zip"]


def test_what_is_no_dump_at_an_address(tmp_path, bucket):
    for place in (f"{bucket.url}/crawl/none.zip", "s3://crawl/none"):
        with pytest.raises(DataError, match="nothing is there"):
            objects_at(place)
    for place in ("https://user:secret@x.test/a.zip", "https://x.test/", "https://x.test/a.zip?key=1", "s3://"):
        with pytest.raises(ConfigError) as caught:
            objects_at(place)
        assert "secret" not in str(caught.value)
    bucket.files |= {f"crawl/long/{'x' * 250}.jpg": PICTURES[0], "crawl/long/fine.jpg": PICTURES[1]}
    assert "1 left out" in said_by_copy("s3://crawl/long", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*.jpg")] == ["fine.jpg"]
    bucket.files["crawl/bad/../../../escape.jpg"] = PICTURES[0]
    with pytest.raises(DataError, match="invalid path"):
        copied("s3://crawl/bad", tmp_path / "out", QUIET)
    assert [
        place for place in ("s3://b/x", "HTTPS://x.test/a", "a/b.zip", "file:///etc", "s3:/b") if is_remote(place)
    ] == [*("s3://b/x", "HTTPS://x.test/a")]


def test_a_real_s3_server(tmp_path, monkeypatch):
    """moto's answers are S3's own: tags of what came in parts, names that need quoting, errors in its words."""
    files = {"crawl/a b+ü.txt": b"text", "crawl/pictures/a.zip": packed(), "crawler/not.txt": b"beside the prefix"}
    with moto_store("dumps", files) as (environment, client):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        in_parts(client, "crawl/large.bin", [b"a" * 5 * 1024**2, b"b"])
        assert "3 objects" in said_by_copy("s3://dumps/crawl", tmp_path)
        (root,) = (path for path in (tmp_path / remote.COPIES).iterdir() if path.is_dir())
        assert (root / "a b+ü.txt").read_bytes() == b"text"
        assert (root / "pictures" / "a.zip").read_bytes() == files["crawl/pictures/a.zip"]
        assert (root / "large.bin").stat().st_size == 5 * 1024**2 + 1
        client.put_object(Bucket="dumps", Key="crawl/a b+ü.txt", Body=b"news")
        assert ", 1 read now" in said_by_copy("s3://dumps/crawl", tmp_path)
        assert (root / "a b+ü.txt").read_bytes() == b"news"
        assert "1 objects" in said_by_copy("s3://dumps/crawl/pictures/a.zip", tmp_path)
        with pytest.raises(DataError, match="nothing is there"):
            objects_at("s3://dumps/elsewhere")
        with pytest.raises(DataError, match="s3://no-such-bucket/x"):
            objects_at("s3://no-such-bucket/x")
        as_google(tmp_path, monkeypatch, environment["AWS_ENDPOINT"], client)


def as_google(tmp_path, monkeypatch, url, client):
    """gs:// speaks Google's XML interface, which is that of S3: moto's bucket by obstore's client for Google."""
    monkeypatch.setenv("GOOGLE_BASE_URL", url)
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    for name in ("crawl/a b+ü.txt", "crawl/pictures/a.zip", "crawl/large.bin"):
        client.put_object_acl(Bucket="dumps", Key=name, ACL="public-read")
    assert [one.path for one in objects_at("gs://dumps/crawl")] == ["a b+ü.txt", "large.bin", "pictures/a.zip"]
    assert "3 objects" in said_by_copy("gs://dumps/crawl", tmp_path / "google")
    assert ", 0 read now" in said_by_copy("gs://dumps/crawl", tmp_path / "google")
    path = copied("gs://dumps/crawl/a b+ü.txt", tmp_path / "google", QUIET)
    assert (path.name, path.read_bytes()) == ("a b+ü.txt", b"news")
    with pytest.raises(DataError, match="nothing is there"):
        objects_at("gs://dumps/elsewhere")


def in_parts(client, key, parts):
    """Upload in several parts, as large files are: their tag is no MD5."""
    where = {
        "Bucket": "dumps",
        "Key": key,
        "UploadId": client.create_multipart_upload(Bucket="dumps", Key=key)["UploadId"],
    }
    tags = [
        {"PartNumber": n, "ETag": client.upload_part(**where, PartNumber=n, Body=data)["ETag"]}
        for n, data in enumerate(parts, 1)
    ]
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": tags})
