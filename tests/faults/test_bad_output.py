"""Whatever a model or its server answers, it is a complete text in the table or a failure of its
kind: no half bio, no refusal, no page of a proxy, and no worker that dies of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artist_bio_gen.errors import ModelError
from artist_bio_gen.generator.client import make_generate
from artist_bio_gen.generator.http1 import Reply
from artist_bio_gen.generator.text import clean
from artist_bio_gen.ledger.line import draft, first_prev, seal
from artist_bio_gen.prompts import Prompt
from tests.acceptance.harness import (
    Job,
    failures,
    journals,
    no_leftovers,
    read_books,
    write_rows,
)
from tests.builders import LEDGER, RUN, artist, one_call
from tests.fakes.raw_http import Peer, RawServer, Request
from tests.faults.bodies import BIO, END, TEXT, Answer, Api, chunked, chunks, corpus, http, sound
from tests.test_client import Canned

KINDS = {
    *("refused", "incomplete", "content_filter", "empty", "too_long"),
    *("bad_reply", "reset", "timeout", "server_error"),
}
"""What an answer that is no bio may be called."""

APIS: tuple[Api, ...] = ("responses", "chat")


def asked_for(request: Request) -> str:
    """The id of the artist, which stands in the call's own id behind that of the run."""
    return unquote(request.headers["x-client-request-id"][37:].rpartition("-")[0])


def answering(answer: Callable[[str], Answer]) -> Callable[[Peer], None]:
    """A server that answers each artist as it is told; questions about models it does not know."""

    def script(peer: Peer) -> None:
        while True:
            request = peer.request()
            if request.method == "GET":
                peer.send(http(b"{}", status="404 Not Found"))
                continue
            given = answer(asked_for(request))
            peer.send(given.data)
            if given.closes:
                return

    return script


def run_against(
    answers: Mapping[str, Answer], api: Api, transport: str, database_url: str, folder: Path
) -> None:
    """The real command asks for each of them; nothing but what must be stored is stored."""
    write_rows(folder / "artists.csv", [(name, f"Artist {name}") for name in answers])
    with RawServer(answering(answers.__getitem__)) as server:
        job = Job(folder, database_url, server.url, folder / "artists.csv")
        job.options = (
            *("--api", api, "--transport", transport, "--workers", "8", "--timeout", "20s"),
            *("--max-attempts", "1", "--max-consecutive-failures", "0"),
        )
        with no_leftovers(job):
            code, said = job.finish()
    assert code == 4, said[-2000:]
    assert "error:" not in said
    assert journals(job) == []
    books = read_books(job)
    assert books.agree
    failed = {line["artist_id"]: line for line in failures(job)}
    assert set(books.ledger) | set(failed) == set(answers)
    assert not set(books.ledger) & set(failed)
    for name, answer in answers.items():
        if name in books.ledger:
            assert books.ledger[name] == answer.bio, name
        else:
            assert answer.bio is None or answer.or_nothing, f"{name}: {failed[name]}"
            assert failed[name]["kind"] in KINDS, name


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("transport", ["lean", "openai"])
def test_a_corpus_of_answers(transport: str, api: Api, database_url: str, tmp_path: Path) -> None:
    answers = corpus(api)
    run_against(answers, api, transport, database_url, tmp_path)
    bios = sum(answer.bio is not None for answer in answers.values())
    print(f"{len(answers)} answers, {bios} of them bios ({transport}, {api}): 0 taken wrongly")


def cuts(api: Api) -> dict[str, Answer]:
    """A sound reply cut behind each byte, on each way; whole at last."""
    body = json.dumps(sound(api)).encode()
    to_the_end = b"HTTP/1.1 200 OK\r\n\r\n" + body
    found = {}
    for way, whole in {
        "length": http(body),
        "chunked": chunked(chunks(body, 50)),
        "to the end": to_the_end,
    }.items():
        for at in range(len(whole)):
            found[f"{way} {at}"] = Answer(whole[:at], None, closes=True)
        found[way] = Answer(whole, BIO, closes=True)
    for at in range(len(body)):  # as a server would send it that is cut itself
        found[f"said {at}"] = Answer(http(body[:at]))
    return found


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("transport", ["lean", "openai"])
def test_a_reply_cut_behind_each_byte(
    transport: str, api: Api, database_url: str, tmp_path: Path
) -> None:
    answers = cuts(api)
    run_against(answers, api, transport, database_url, tmp_path)
    print(f"{len(answers)} cuts ({transport}, {api}): 0 half bios")


# ---- fuzzing ------------------------------------------------------------------------------------


def mutated(body: bytes, draw: random.Random) -> bytes:
    """With some bytes changed, taken out, put in, or copied from elsewhere in it."""
    data = bytearray(body)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        at, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + draw.choice([1, 1, 4, 40]))
        start = draw.randrange(len(data) + 1)
        new = draw.choice(
            [b"", draw.randbytes(1), draw.choice(MARKS), bytes(data[start : start + end - at])]
        )
        data[at:end] = new
        if not data:
            break
    return bytes(data)


MARKS = (b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\\ud83d", b"null", b"1e999")


def at(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=2_000, deadline=None)
@given(draw=st.randoms(use_true_random=False))
def test_a_mutated_reply_is_a_complete_text_or_a_failure(api: Api, draw: random.Random) -> None:
    body = mutated(json.dumps(sound(api)).encode(), draw)
    transport = Canned([Reply(200, {"x-request-id": "req_\x00\x1b"}, body)])
    generate = make_generate(transport, api=api, model="m", prompt=PROMPT, max_output_tokens=100)
    try:
        bio = one_call(generate, artist())
    except ModelError as exc:
        str(exc).encode()
        return
    document = json.loads(body, parse_constant=lambda _: None)
    if api == "responses":
        parts = [
            part["text"]
            for item in document["output"]
            if isinstance(item, dict) and item.get("type") == "message"
            for part in item.get("content") or []
            if isinstance(part, dict) and part.get("type") in ("output_text", "text")
            and isinstance(part.get("text"), str)
        ]  # fmt: skip
        said = "".join(parts)
    else:
        said = at(document, TEXT[api])
    assert at(document, END[api]) in ("completed", "stop")
    assert bio.text == clean(said)[0]
    assert any(character.isalnum() for character in bio.text)
    line = seal(
        draft(artist(), bio, ledger=LEDGER, run=RUN),
        seq=1,
        prev=first_prev(LEDGER),
        committed_at="",
    )
    stored = json.loads(line.data)
    assert stored["response_text"] == bio.text
    assert "\\u0000" not in line.data.decode()


PROMPT = Prompt.from_text("fuzz", "{{ artist_name }}")


def test_ids_are_found_in_the_names_of_calls() -> None:
    """The server above answers by them."""
    odd = "text: a/b-c, 100 %"
    headers = {"x-client-request-id": f"{RUN}-{quote(odd, safe='')}-12"}
    assert asked_for(Request(0, "POST", "/", headers, b"")) == odd
