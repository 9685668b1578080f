"""Files at web addresses, from a real server that cuts, drips, redirects and lies."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import socket
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import InputError, StoppedError, UsageError
from artist_bio_gen.sources import open_source
from artist_bio_gen.sources.content import Content
from artist_bio_gen.sources.places.addresses import Found
from artist_bio_gen.sources.places.compressed import unpacked
from artist_bio_gen.sources.places.remote import fetch
from artist_bio_gen.sources.places.web import MOST_CUTS, PROGRESS, Target, download
from tests.fakes.file_server import LONG_AGO, NOW, FileServer, Served, answer, etag_of
from tests.fakes.raw_http import Peer, RawServer, always, trusting_tls

NEAR = SourceOptions(allow_private=True)


def table(rows: int) -> bytes:
    lines = [f"{number},Artist {number},Ghana" for number in range(rows)]
    return ("id,name,country\n" + "\n".join(lines) + "\n").encode()


DATA = table(100_000)


def going_on() -> bool:
    return False


class Pauses:
    """Waits are noted, not waited for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def fetched(address: str, options: SourceOptions = NEAR, **more: Any) -> Content:
    return download(address, options, going_on, **{"pause": Pauses(), **more})


def read(content: Content) -> tuple[bytes, str]:
    """What can be read, and with which error it ended."""
    found = []
    try:
        with content.open() as file:
            while data := file.read1(100_000):
                found.append(data)
    except InputError as exc:
        return b"".join(found), str(exc)
    return b"".join(found), ""


def test_a_file_is_streamed_and_known_by_its_name() -> None:
    with FileServer({"/data/artists.csv": Served(DATA)}) as server:
        (content,) = fetch(f"{server.base}/data/artists.csv?page=1&key=hidden", NEAR, going_on)
        assert (content.file_name, content.size) == ("artists.csv", len(DATA))
        assert not content.can_wait
        assert not content.again
        assert "hidden" not in content.name
        assert read(content) == (DATA, "")
        assert server.requests[0].target == "/data/artists.csv?page=1&key=hidden"
        assert server.requests[0].headers["host"] == server.address


def test_rows_at_an_address() -> None:
    with FileServer({"/artists.csv": Served(DATA)}) as server:
        address = f"{server.base}/artists.csv"
        with open_source(address, allow_private=True) as source:
            assert sum(1 for _ in source) == 100_000
        with open_source(address, allow_private=True, spill="direct") as source:
            assert not source.can_wait


def test_this_machine_is_not_asked_unless_that_is_allowed() -> None:
    with FileServer({"/a.csv": Served(DATA)}) as server:
        with pytest.raises(InputError, match=r"this machine.*--allow-private"):
            fetch(f"{server.base}/a.csv", SourceOptions(), going_on)
        assert server.connections == 0


# ---- cut, and gone on with -------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"resets": True}], ids=["ended", "reset"])
def test_a_cut_file_is_asked_for_from_there(more: dict[str, Any]) -> None:
    served = Served(DATA, cuts=[1_000_000, 1_200_000, 0, 5], **more)
    with FileServer({"/a.csv": served}) as server:
        assert read(fetched(f"{server.base}/a.csv")) == (DATA, "")
        asked = [each.headers.get("range") for each in server.requests]
        conditions = {each.headers.get("if-range") for each in server.requests[1:]}
    assert len(asked) == 5
    assert asked[0] is None
    if not more:  # with a reset, what was on its way may be lost
        assert asked[1:] == [
            *("bytes=1000000-", "bytes=2200000-", "bytes=2200000-", "bytes=2200005-")
        ]
    assert conditions == {etag_of(DATA)}


def test_a_cut_between_chunks_and_within_them_is_noticed() -> None:
    served = Served(DATA, chunked=True, cuts=[50_003, 60_000, 1])
    with FileServer({"/a.csv": served}) as server:
        content = fetched(f"{server.base}/a.csv")
        assert content.size is None
        assert read(content) == (DATA, "")
        assert len(server.requests) == 4


def test_a_file_that_changes_meanwhile_is_not_mixed() -> None:
    files = {"/a.csv": Served(DATA, cuts=[1_000_000])}
    with FileServer(files) as server:
        content = fetched(f"{server.base}/a.csv")
        with content.open() as file:
            start = file.read(500_000)
            files["/a.csv"] = Served(DATA.replace(b"Ghana", b"Benin"))
            rest, error = read(replace(content, open=lambda: file))
    assert start + rest == DATA[:1_000_000]
    assert "changed meanwhile; the rows so far stand" in error


def test_a_server_that_cannot_send_parts_is_told() -> None:
    with FileServer({"/a.csv": Served(DATA, ranges=False, cuts=[1_000_000])}) as server:
        found, error = read(fetched(f"{server.base}/a.csv"))
    assert found == DATA[:1_000_000]
    assert "was cut after 1,000,000 bytes" in error
    assert "does not send parts" in error


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"weak"', "Last-Modified": LONG_AGO},
        {"Last-Modified": NOW},  # another version may have the same date
        {"Last-Modified": "yesterday"},
        {"ETag": '"strong"', "Accept-Ranges": "none"},
    ],
)
def test_without_a_way_to_know_the_file_again_it_is_not_asked_for(
    headers: Mapping[str, str],
) -> None:
    served = Served(DATA, headers=headers, etag="", cuts=[1_000_000])
    with FileServer({"/a.csv": served}) as server:
        found, error = read(fetched(f"{server.base}/a.csv"))
        assert len(server.requests) == 1
    assert found == DATA[:1_000_000]
    assert "does not say how to ask for the rest" in error


def test_an_old_date_is_a_way_to_know_the_file_again() -> None:
    served = Served(DATA, headers={"Last-Modified": LONG_AGO}, etag="", cuts=[1_000_000])
    with FileServer({"/a.csv": served}) as server:
        assert read(fetched(f"{server.base}/a.csv")) == (DATA, "")
        assert server.requests[1].headers["if-range"] == LONG_AGO


def test_attempts_without_progress_come_to_an_end() -> None:
    pauses = Pauses()
    with FileServer({"/a.csv": Served(DATA, cuts=[1_000, *[0] * 100])}) as server:
        found, error = read(fetched(f"{server.base}/a.csv", pause=pauses))
        assert len(server.requests) == 1 + MOST_CUTS
    assert found == DATA[:1_000]
    assert f"did not come in {MOST_CUTS} attempts" in error
    assert pauses.seconds == [0.5, 1.0, 2.0, 4.0]


def test_any_number_of_cuts_is_borne_where_enough_comes_between_them() -> None:
    data = DATA * 5
    pauses = Pauses()
    with FileServer({"/a.csv": Served(data, cuts=[PROGRESS] * (MOST_CUTS + 3))}) as server:
        assert read(fetched(f"{server.base}/a.csv", pause=pauses)) == (data, "")
        assert len(server.requests) == MOST_CUTS + 4
    assert pauses.seconds == []


def test_whoever_reads_slowly_needs_no_further_answer() -> None:
    options = SourceOptions(allow_private=True, query_timeout=1.0)
    with FileServer({"/a.csv": Served(DATA)}) as server:
        with fetched(f"{server.base}/a.csv", options).open() as file:
            start = file.read(10)
            time.sleep(1.1)  # longer than any one wait may take
            assert start + file.read() == DATA
        assert len(server.requests) == 1


def test_a_busy_server_is_asked_again() -> None:
    served = Served(DATA, cuts=[1_000_000])
    with FileServer({"/a.csv": served}) as server:
        content = fetched(f"{server.base}/a.csv")
        served.answers += [answer("503 Service Unavailable"), answer("429 Too Many Requests")]
        assert read(content) == (DATA, "")
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        (answer("206 Partial Content", b"x", Content_Range="bytes 5-5/9"), "sends another part"),
        (answer("206 Partial Content", b"x"), "sends another part"),
        (
            answer("206 Partial Content", b"x", Content_Range="bytes 1000000-1000000/1000001"),
            "changed meanwhile",
        ),
        (answer("416 Range Not Satisfiable"), "changed meanwhile"),
        (answer("404 Not Found"), "the server answers 404"),
    ],
)
def test_what_is_not_the_rest_is_not_taken_for_it(rest: bytes, why: str) -> None:
    served = Served(DATA, cuts=[1_000_000])
    with FileServer({"/a.csv": served}) as server:
        content = fetched(f"{server.base}/a.csv")
        served.answers.append(rest)
        found, error = read(content)
    assert found == DATA[:1_000_000]
    assert why in error


def test_a_file_shorter_than_announced_is_told() -> None:
    with FileServer({"/a.csv": Served(DATA, length=len(DATA) + 10, ranges=False)}) as server:
        found, error = read(fetched(f"{server.base}/a.csv"))
    assert found == DATA
    assert "10 bytes less than announced" in error


def test_a_file_of_unknown_length_ends_with_the_connection() -> None:
    with FileServer({"/a.csv": Served(DATA, length=-1)}) as server:
        content = fetched(f"{server.base}/a.csv")
        assert content.size is None
        assert read(content) == (DATA, "")


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_falls_silent_is_left_and_asked_again(tls: bool) -> None:
    served = Served(DATA, cuts=[1_000_000], holds=True)
    options = SourceOptions(allow_private=True, query_timeout=1.5)
    with FileServer({"/a.csv": served}, tls=tls) as server:
        content = fetched(f"{server.base}/a.csv", options, tls=trusting_tls())
        assert read(content) == (DATA, "")
        assert len(server.requests) == 2


def test_a_server_that_never_answers_is_told() -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.hold()

    with RawServer(script) as server, pytest.raises(InputError) as caught:
        fetched(server.url, SourceOptions(allow_private=True, query_timeout=0.3))
    assert "cannot be reached: nothing came for 0.3 s" in str(caught.value)


def test_rows_of_a_cut_packed_file_are_whole() -> None:
    packed = gzip.compress(DATA)
    served = Served(packed, cuts=[100_000, 100_000])
    with FileServer({"/a.csv.gz": served}) as server:
        (content,) = unpacked(fetched(f"{server.base}/a.csv.gz"), NEAR)
        assert content.file_name == "a.csv"
        assert not content.can_wait
        assert read(content) == (DATA, "")
        assert len(server.requests) == 3


# ---- called off --------------------------------------------------------------------------------


def test_waiting_for_bytes_is_called_off() -> None:
    looks: Iterator[bool] = iter(())
    with FileServer({"/a.csv": Served(DATA, cuts=[1_000], holds=True)}) as server:
        content = download(f"{server.base}/a.csv", NEAR, lambda: next(looks, False))
        with content.open() as file:
            assert len(file.read1(1_000)) == 1_000
            looks = iter([False, False, True])  # while it waits
            with pytest.raises(StoppedError):
                file.read1(1_000)


def test_waiting_for_an_answer_is_called_off() -> None:
    called_off = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        called_off.set()
        peer.hold()

    with RawServer(script) as server, pytest.raises(StoppedError):
        download(server.url, NEAR, called_off.is_set)


def test_waiting_for_a_handshake_is_called_off() -> None:
    called_off = threading.Event()

    def script(peer: Peer) -> None:
        called_off.set()
        peer.request()  # never whole, as it is no HTTP that comes

    with RawServer(script) as server:
        address = server.url.replace("http:", "https:")
        with pytest.raises(StoppedError):
            download(address, NEAR, called_off.is_set, tls=trusting_tls())


def test_pauses_between_attempts_are_called_off() -> None:
    served = Served(DATA, cuts=[1_000, 0, 0, 0])
    with FileServer({"/a.csv": served}) as server:
        content = download(f"{server.base}/a.csv", NEAR, lambda: len(served.cuts) < 2)
        with pytest.raises(StoppedError):
            read(content)


# ---- redirects, hosts, TLS ---------------------------------------------------------------------


def test_redirects_are_followed_and_the_last_name_counts() -> None:
    files = {
        "/latest": Served(b"", answers=[answer("302 Found", Location="/b/artists.csv?sig=x")] * 2),
        "/b/artists.csv": Served(DATA, cuts=[1_000_000]),
    }
    with FileServer(files) as server:
        content = fetched(f"{server.base}/latest")
        assert content.file_name == "artists.csv"
        assert read(content) == (DATA, "")
        targets = [each.target for each in server.requests]
    assert targets == ["/latest", "/b/artists.csv?sig=x"] * 2


def test_redirects_without_end_are_told() -> None:
    files = {"/a": Served(b"", answers=[answer("301 Moved", Location="/a")] * 100)}
    with FileServer(files) as server:
        with pytest.raises(InputError, match="redirects more than 5 times"):
            fetched(f"{server.base}/a")
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://240.0.0.1/a.csv", "is not read"),
        ("http://[::]/a.csv", "is not read"),
        ("ftp://127.0.0.1/a.csv", "what is no web address"),
        ("file:///etc/passwd", "what is no web address"),
        ("http://[", "what is no web address"),
    ],
)
def test_where_a_redirect_leads_is_checked(location: str, why: str) -> None:
    files = {"/a.csv": Served(b"", answers=[answer("302 Found", Location=location)])}
    with FileServer(files) as server, pytest.raises(InputError, match=why):
        fetched(f"{server.base}/a.csv")


def test_a_redirect_from_the_public_internet_to_this_machine_is_refused() -> None:
    """Step by step, as nothing public is at hand to send the redirect."""
    with FileServer({"/a.csv": Served(DATA)}) as server:
        public = Target.parse("https://public.test/a.csv")
        near = public.redirected(f"https://localhost:{server.port}/a.csv")
        with pytest.raises(InputError, match="this machine"):
            fetched(f"https://{near.authority}{near.path}", SourceOptions())
        assert server.connections == 0


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.0.1"])
def test_no_redirect_leads_to_link_local_addresses(address: str) -> None:
    """Nothing can be connected to: what is looked up has a family in which it is no address."""
    asked: list[str] = []

    def look_up(host: str, port: int, **_: Any) -> Found:
        asked.append(host)
        if host == "keys.test":
            return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", (address, port))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    location = "http://keys.test/latest/meta-data/"
    files = {"/a.csv": Served(b"", answers=[answer("302 Found", Location=location)])}
    with FileServer(files) as server, pytest.raises(InputError) as caught:
        fetched(f"{server.base}/a.csv", look_up=look_up)
    assert asked == ["127.0.0.1", "keys.test"]
    assert f"{address} is link-local" in str(caught.value)
    assert "a redirect leads there; give the address itself" in str(caught.value)


def test_nothing_goes_from_https_to_http() -> None:
    files = {"/a.csv": Served(b"", answers=[answer("302 Found", Location="http://localhost/a")])}
    with (
        FileServer(files, tls=True) as server,
        pytest.raises(InputError, match="nothing is encrypted"),
    ):
        fetched(f"{server.base}/a.csv", tls=trusting_tls())


def test_a_host_is_looked_up_once_and_what_was_checked_is_connected_to() -> None:
    asked: list[str] = []

    with FileServer({"/a.csv": Served(DATA)}) as server:

        def look_up(host: str, port: int, **_: Any) -> Found:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        content = fetched(f"http://api.test:{server.port}/a.csv", look_up=look_up)
        assert read(content) == (DATA, "")
        assert server.requests[0].headers["host"] == f"api.test:{server.port}"
    assert asked == ["api.test"]


def test_the_next_address_of_a_host_is_tried() -> None:
    with FileServer({"/a.csv": Served(DATA)}) as server:

        def look_up(host: str, port: int, **_: Any) -> Found:
            closed = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 9))
            return [closed, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        content = fetched(f"http://api.test:{server.port}/a.csv", look_up=look_up)
        assert read(content) == (DATA, "")


def test_the_certificate_must_be_that_of_the_host() -> None:
    def look_up(host: str, port: int, **_: Any) -> Found:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with FileServer({"/a.csv": Served(DATA, cuts=[1_000_000])}, tls=True) as server:
        more: dict[str, Any] = {"tls": trusting_tls(), "look_up": look_up}
        content = fetched(f"https://api.test:{server.port}/a.csv", **more)
        assert read(content) == (DATA, "")
        with pytest.raises(InputError, match=r"certificate of other\.test is not trusted"):
            fetched(f"https://other.test:{server.port}/a.csv", **more)
        with pytest.raises(InputError, match="SSL_CERT_FILE"):
            fetched(f"https://api.test:{server.port}/a.csv", look_up=look_up)


def test_an_end_without_farewell_of_tls_is_a_cut() -> None:
    """Whoever sits in between could make one."""
    served = Served(DATA, length=-1, ranges=False)
    with FileServer({"/a.csv": served}, tls=True) as server:
        found, error = read(fetched(f"{server.base}/a.csv", tls=trusting_tls()))
    assert DATA.startswith(found)
    assert "was cut after" in error


# ---- user and password -------------------------------------------------------------------------


def test_user_and_password_go_to_their_own_server_alone() -> None:
    basic = "Basic dXNlcjpwYTpzcw=="  # user:pa:ss
    with FileServer({"/c.csv": Served(DATA)}) as other:
        files = {
            "/a.csv": Served(b"", answers=[answer("302 Found", Location="/b.csv")]),
            "/b.csv": Served(b"", answers=[answer("302 Found", Location=f"{other.base}/c.csv")]),
        }
        with FileServer(files) as server:
            content = fetched(f"http://user:pa%3Ass@{server.address}/a.csv")
            assert read(content) == (DATA, "")
            assert [each.headers.get("authorization") for each in server.requests] == [basic] * 2
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    "address",
    [
        "http://user:secret@127.0.0.1:1/a.csv?token=secret",
        "http://user:secret@0.0.0.0/a.csv?token=secret",
        "http://user:secret@nowhere.invalid/a.csv?token=secret",
        "http://user:secret@:80/a.csv?token=secret",
        "http://user:secret@host:port/a.csv?token=secret",
        "http://user:secret@[::1/a.csv?token=secret",
    ],
)
def test_no_message_holds_a_secret(address: str) -> None:
    def look_up(host: str, port: int, **_: Any) -> Found:
        if host == "nowhere.invalid":  # else a name server would be asked
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    with pytest.raises((InputError, UsageError)) as caught:
        fetched(address, look_up=look_up)
    assert "secret" not in str(caught.value)
    assert (
        "a.csv" in str(caught.value)
        or "host is not found" in str(caught.value)
        or ("is not read" in str(caught.value))
    )


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("401 Unauthorized", "user:password@host"),
        ("403 Forbidden", "not give it to everybody"),
        ("404 Not Found", "check the address"),
        ("500 Internal Server Error", "try later"),
        ("204 No Content", "check the address"),
    ],
)
def test_other_answers_are_told_with_a_way_out(status: str, hint: str) -> None:
    with FileServer({"/a.csv": Served(b"", answers=[answer(status)])}) as server:
        with pytest.raises(InputError) as caught:
            fetched(f"{server.base}/a.csv")
        assert f"{server.base}/a.csv: the server answers {status}" in str(caught.value)
        assert hint in str(caught.value)


def test_what_is_no_http_is_told() -> None:
    script = always(b"SSH-2.0-x\r\n")
    with RawServer(script) as server, pytest.raises(InputError, match="cannot be reached"):
        fetched(server.url)


# ---- what it is called, how it is packed -------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/x", {"Content-Disposition": 'attachment; filename="artists.csv.gz"'}, "artists.csv.gz"),
        (
            "/x.php",
            {"Content-Disposition": "attachment; filename*=UTF-8''k%C3%BCnstler.csv"},
            "künstler.csv",
        ),
        ("/x", {"Content-Disposition": 'attachment; filename="../../etc/a.csv"'}, "a.csv"),
        ("/x", {"Content-Disposition": 'attachment; filename="C:\\\\data\\\\a.csv"'}, "a.csv"),
        ("/export", {"Content-Type": "application/x-ndjson; charset=utf-8"}, "export.jsonl"),
        ("/", {"Content-Type": "text/csv"}, "download.csv"),
        ("/a%20b.tsv", {"Content-Type": "text/csv"}, "a b.tsv"),
    ],
)
def test_the_name_of_a_file(path: str, headers: Mapping[str, str], name: str) -> None:
    with FileServer({path: Served(DATA, headers=headers)}) as server:
        content = fetched(f"{server.base}{path}")
        assert content.file_name == name
        read(content)


def test_a_packed_answer_is_unpacked() -> None:
    packed = gzip.compress(DATA)
    served = Served(packed, headers={"Content-Encoding": "gzip"}, cuts=[1_000])
    with FileServer({"/a.csv": served, "/b.csv.gz": served}) as server:
        content = fetched(f"{server.base}/a.csv")
        assert (content.size, content.packed_size) == (None, len(packed))
        assert read(content) == (DATA, "")
        (content,) = unpacked(fetched(f"{server.base}/b.csv.gz"), NEAR)
        assert read(content) == (DATA, "")
    served = Served(DATA, headers={"Content-Encoding": "br"})
    refused = pytest.raises(InputError, match="encoding 'br'")
    with FileServer({"/a.csv": served}) as server, refused:
        fetched(f"{server.base}/a.csv")


def test_an_archive_at_an_address_is_put_on_disk_and_removed(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a.csv", DATA)
        file.writestr("b.csv", DATA)
    options = SourceOptions(allow_private=True, spill_dir=tmp_path)
    with FileServer({"/a.zip": Served(made.getvalue(), cuts=[500_000])}) as server:
        contents = unpacked(fetched(f"{server.base}/a.zip", options), options)
        assert [read(each) for each in contents] == [(DATA, "")] * 2
        assert all(each.can_wait for each in contents)
        del contents
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_open_when_nobody_reads() -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer("200 OK", b"x")[:-1])
        peer.hold()
        ended.set()

    with RawServer(script) as server:
        content = fetched(server.url)
        del content
        assert ended.wait(10)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("http://h", "/"),
        ("http://h/a b/ü?q=ü&x=a b", "/a%20b/%C3%BC?q=%C3%BC&x=a%20b"),
        ("http://h/a%20b?x=%26", "/a%20b?x=%26"),
        ("http://h/a\r\nHost: evil", "/aHost:%20evil"),
        ("http://h/a#part", "/a"),
    ],
)
def test_addresses_are_sent_as_they_must_be(address: str, path: str) -> None:
    assert Target.parse(address).path == path
    assert re.fullmatch(r"[!-~]+", path)


def test_names_of_hosts() -> None:
    assert Target.parse("https://Bücher.example/").authority == "xn--bcher-kva.example"
    assert Target.parse("http://[::1]:8080/").authority == "[::1]:8080"
    assert Target.parse("https://a.example:443/").authority == "a.example"
    for bad in ("http://", "http:///a", "http://a:99999/", f"http://{'x' * 70}.example/"):
        with pytest.raises(UsageError, match="is no web address"):
            Target.parse(bad)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nContent-Length: 100\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: five\r\n",
    ],
)
def test_a_length_that_is_none_is_refused(head: bytes) -> None:
    served = Served(b"", answers=[b"HTTP/1.1 200 OK\r\n" + head + b"\r\nid,name\n1,Nina\n"])
    with FileServer({"/a.csv": served}) as server, pytest.raises(InputError) as caught:
        fetched(f"{server.base}/a.csv")
    assert "the server tells its length as " in str(caught.value)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["a header letter by letter", "100 Continue", "trailers"],
)
def test_an_answer_without_end_comes_to_one(begin: bytes, more: bytes) -> None:
    left = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(begin)
        with contextlib.suppress(OSError):
            while not left.wait(0.01):
                peer.send(more)

    options = SourceOptions(allow_private=True, query_timeout=0.5)
    with RawServer(script) as server:
        try:
            told = read_to_its_end(server.url, options)
        finally:
            left.set()
    assert "what came in 0.5 s was no end of it" in told


def read_to_its_end(address: str, options: SourceOptions) -> str:
    try:
        return read(fetched(address, options))[1]
    except InputError as exc:
        return str(exc)
