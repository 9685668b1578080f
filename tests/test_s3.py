"""Files in S3, at a server of moto's on loopback."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError, InputError, StoppedError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.places.objects import MOST_ATTEMPTS, objects
from artist_bio_gen.sources.places.remote import fetch
from tests.fakes.raw_http import Peer, RawServer

pytest.importorskip("s3fs", reason="needs: pip install '.[s3]'")
boto3 = pytest.importorskip("boto3", reason="needs: moto[s3,server]")
moto = pytest.importorskip("moto.server", reason="needs: moto[s3,server]")

OPTIONS = SourceOptions()


def table(rows: int, first: int = 0) -> bytes:
    lines = [f"{number},Artist {number}" for number in range(first, first + rows)]
    return ("id,name\n" + "\n".join(lines) + "\n").encode()


DATA = table(400_000)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a server with a bucket `music`."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = client_of(url)
    client.create_bucket(Bucket="music")
    for name, data in {
        "artists-2.csv": table(20, 100),
        "artists-1.csv": table(10),
        "artists-3.csv.gz": gzip.compress(table(5, 200)),
        "other.txt": b"",
        "odd[1].csv": table(3),
        "large.csv": DATA,
    }.items():
        client.put_object(Bucket="music", Key=name, Body=data)
    client.close()
    yield url
    server.stop()


def client_of(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture
def s3(store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    point_to(store, monkeypatch)
    return store


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore waits for seconds between its own


def going_on() -> bool:
    return False


@pytest.mark.usefixtures("s3")
def test_a_file_in_a_bucket_is_read_in_blocks() -> None:
    (content,) = fetch("s3://music/large.csv", OPTIONS, going_on)
    assert (content.name, content.file_name) == ("s3://music/large.csv", "large.csv")
    assert (content.size, content.again, content.can_wait) == (len(DATA), True, True)
    with content.open() as file:
        assert file.read() == DATA
    with content.open() as file:
        file.seek(-10, 2)
        assert file.read() == DATA[-10:]


@pytest.mark.usefixtures("s3")
def test_rows_of_a_file_in_a_bucket() -> None:
    with open_source("s3://music/artists-3.csv.gz") as source:
        assert [row.values[0] for row in source] == ["200", "201", "202", "203", "204"]


@pytest.mark.usefixtures("s3")
def test_files_that_fit_a_pattern_come_in_the_order_of_their_names() -> None:
    found = fetch("s3://music/artists-*.csv", OPTIONS, going_on)
    assert [each.file_name for each in found] == ["artists-1.csv", "artists-2.csv"]
    with open_source("s3://music/artists-*.csv*") as source:
        assert sum(1 for _ in source) == 35


@pytest.mark.usefixtures("s3")
def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    (content,) = fetch("s3://music/odd[1].csv", OPTIONS, going_on)
    with content.open() as file:
        assert file.read() == table(3)


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://music/none.csv", "there is no such file"),
        ("s3://music/none-*.csv", "nothing fits this pattern"),
        ("s3://no-such-bucket/a.csv", "no such file|cannot be reached"),
        ("s3://music", "no such file"),
    ],
)
def test_what_is_not_there_is_told(address: str, why: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(address)}: .*({why})"):
        fetch(address, OPTIONS, going_on)


def test_a_store_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(lambda peer: None) as server:
        closed = f"http://{server.address}"
    point_to(closed, monkeypatch)
    with pytest.raises(InputError, match=r"cannot be reached: .*AWS_ENDPOINT_URL"):
        fetch("s3://music/a.csv", OPTIONS, going_on)


def test_missing_keys_are_told(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="AWS_ACCESS_KEY_ID"):
        fetch("s3://music/artists-1.csv", OPTIONS, going_on)


@pytest.mark.usefixtures("s3")
def test_what_is_no_address_of_a_store_is_told() -> None:
    with pytest.raises(UsageError, match="what is known"):
        fetch("nothing://a/b.csv", OPTIONS, going_on)
    with pytest.raises(UsageError, match="within each other"):
        fetch("simplecache::s3://music/a.csv", OPTIONS, going_on)
    with pytest.raises(UsageError, match="--allow-private"):
        fetch("ftp://user:hidden@host/a.csv", OPTIONS, going_on)
    with pytest.raises(ConfigError, match="pip install gcsfs"):
        fetch("gs://bucket/a.csv", OPTIONS, going_on)


# ---- cut, and gone on with ---------------------------------------------------------------------


def test_a_file_that_changes_meanwhile_is_not_mixed(s3: str) -> None:
    client = client_of(s3)
    client.put_object(Bucket="music", Key="changing.csv", Body=DATA)
    pauses: list[float] = []
    (content,) = objects("s3://music/changing.csv", OPTIONS, going_on, pause=pauses.append)
    with content.open() as file:
        start = file.read(100_000)
        client.put_object(Bucket="music", Key="changing.csv", Body=DATA.replace(b"A", b"B"))
        with pytest.raises(InputError, match=r"has changed meanwhile.*the rows so far stand"):
            file.read()
    client.close()
    assert DATA.startswith(start)
    assert pauses == [], "another attempt would end in the same way"


class Flaky:
    """One object, at an S3 of which the first `cuts` answers to a GET end in their middle."""

    def __init__(self, cuts: int) -> None:
        self.cuts = cuts
        self.gets = 0

    def __call__(self, peer: Peer) -> None:
        request = peer.request()
        head = {
            "ETag": '"1"',
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
            "Connection": "close",
        }
        if request.method == "HEAD":
            peer.send(_head("200 OK", {**head, "Content-Length": str(len(DATA))}))
            return
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        body = DATA[first : last + 1]
        place = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{len(DATA)}"}
        peer.send(_head("206 Partial", {**head, **place, "Content-Length": str(len(body))}))
        self.gets += 1
        peer.send(body[: len(body) // 2] if self.gets <= self.cuts else body)


def _head(status: str, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def test_a_cut_block_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    flaky = Flaky(4)
    pauses: list[float] = []
    with RawServer(flaky) as server:
        point_to(f"http://{server.address}", monkeypatch)
        (content,) = objects("s3://music/a.csv", OPTIONS, going_on, pause=pauses.append)
        with content.open() as file:
            assert file.read() == DATA
    assert flaky.gets > 4


def test_blocks_that_never_come_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    flaky = Flaky(1_000_000)
    pauses: list[float] = []
    with RawServer(flaky) as server:
        point_to(f"http://{server.address}", monkeypatch)
        (content,) = objects("s3://music/a.csv", OPTIONS, going_on, pause=pauses.append)
        with content.open() as file, pytest.raises(InputError, match="rows so far stand"):
            file.read()
    assert len(pauses) == MOST_ATTEMPTS - 1


@pytest.mark.usefixtures("s3")
def test_reading_is_called_off() -> None:
    called_off: list[bool] = []
    (content,) = objects("s3://music/large.csv", OPTIONS, lambda: bool(called_off))
    with content.open() as file:
        file.read1(10)
        called_off.append(True)
        with pytest.raises(StoppedError):
            file.read()


@pytest.mark.parametrize("keys", ["AKIA:geheim", "AKIA:/geheim"])
def test_keys_in_an_address_are_refused_and_not_shown(keys: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch(f"s3://{keys}@music/a.csv", OPTIONS, lambda: False)
    assert str(caught.value).startswith("s3://***@music: keys are not taken from an address; ")
    assert "AKIA" not in str(caught.value)
    assert "geheim" not in str(caught.value)
