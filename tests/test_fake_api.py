"""The fake of the model's API is itself held to what the API's reference says."""

from __future__ import annotations

import concurrent.futures
import gzip
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.api import Counts, FakeApi
from tests.fakes.api.behaviour import Behaviour, Plan
from tests.fakes.api.faults import (
    BODIES,
    BROKEN_WIRE,
    COMPLETE_WIRE,
    ERRORS,
    KINDS,
    REFUSED_WIRE,
    parse_faults,
)

ROOT = Path(__file__).parents[1]
INPUT = "<artist>\nname: Nina Simone\nborn: 1933\n</artist>\nWrite the biography."
ENDPOINTS = ("responses", "chat")


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


@pytest.fixture
def api(shared: FakeApi) -> FakeApi:
    fresh = Behaviour()
    shared.script(**{name: getattr(fresh, name) for name in Behaviour.__slots__})
    shared.clear()
    return shared


@pytest.fixture
def client(api: FakeApi) -> Iterator[openai.OpenAI]:
    with sdk(api) as opened:
        yield opened


def sdk(api: FakeApi) -> openai.OpenAI:
    return openai.OpenAI(base_url=api.base_url, api_key="sk-test", max_retries=0, timeout=10)


def ask(client: openai.OpenAI, endpoint: str, text: str = INPUT, **more: Any) -> Any:
    if endpoint == "responses":
        return client.responses.create(model="m", instructions="Be brief.", input=text, **more)
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": text},
    ]
    return client.chat.completions.create(model="m", messages=messages, **more)


def post(
    api: FakeApi, text: str = INPUT, *, request_id: str = "", timeout: float = 10
) -> tuple[int, dict[str, str], bytes]:
    """One call without any library's opinion of the reply: status, headers, body."""
    connection = http.client.HTTPConnection(api.host, api.port, timeout=timeout)
    try:
        headers = {"X-Client-Request-Id": request_id} if request_id else {}
        connection.request("POST", "/v1/responses", body(text), headers)
        reply = connection.getresponse()
        return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()
    finally:
        connection.close()


def body(text: str = INPUT) -> bytes:
    return json.dumps({"model": "m", "input": text}).encode()


def raw_request(text: str = INPUT, *lines: str) -> bytes:
    content = body(text)
    head = ["POST /v1/responses HTTP/1.1", "Host: x", f"Content-Length: {len(content)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def raw_reply(api: FakeApi, request: bytes, timeout: float = 10) -> bytes:
    """All bytes until the server ends the connection."""
    with socket.create_connection((api.host, api.port), timeout=timeout) as connection:
        connection.sendall(request)
        parts = iter(lambda: connection.recv(65536), b"")
        return b"".join(parts)


def wait_for(api: FakeApi, *, limit_s: float = 10, **wanted: int) -> Counts:
    deadline = time.monotonic() + limit_s
    while True:
        counts = api.counts()
        if all(getattr(counts, name) == value for name, value in wanted.items()):
            return counts
        assert time.monotonic() < deadline, f"{wanted} not reached: {counts}"


# The good case, as the openai package reads it


def test_a_response_has_the_shape_of_the_reference(client: openai.OpenAI) -> None:
    response = ask(client, "responses", metadata={"run": "r1"}, max_output_tokens=500)
    assert response.id.startswith("resp_")
    assert response.status == "completed"
    assert abs(response.created_at - time.time()) < 5
    assert response.output_text.startswith("Nina Simone ")
    assert response.output[0].content[0].type == "output_text"
    assert response.instructions == "Be brief."
    assert response.metadata == {"run": "r1"}
    assert response.service_tier == "default"
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    assert usage.input_tokens_details.cached_tokens == 0
    assert usage.output_tokens_details.reasoning_tokens == 0
    assert openai.types.responses.Response.model_validate(response.model_dump())


def test_a_chat_completion_has_the_shape_of_the_reference(client: openai.OpenAI) -> None:
    completion = ask(client, "chat")
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    choice = completion.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content.startswith("Nina Simone ")
    assert choice.message.refusal is None
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert usage.prompt_tokens_details.cached_tokens == 0
    assert openai.types.chat.ChatCompletion.model_validate(completion.model_dump())


def test_ids_and_rate_headers_come_with_each_reply(client: openai.OpenAI) -> None:
    first = client.responses.with_raw_response.create(model="m", input=INPUT)
    second = client.responses.with_raw_response.create(model="m", input=INPUT)
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    for of in ("requests", "tokens", "project-tokens"):
        for what in ("limit", "remaining", "reset"):
            assert f"x-ratelimit-{what}-{of}" in first.headers


def test_a_text_follows_from_the_request_alone(client: openai.OpenAI) -> None:
    same = {ask(client, "responses").output_text for _ in range(3)}
    assert same == {ask(client, "chat").choices[0].message.content}
    assert ask(client, "responses", INPUT + " And kindly.").output_text not in same


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("artist_name: Björk\nborn: 1965", "Björk"),
        ('{"id": 7, "name": "Earth, Wind & Fire", "genre": "funk"}', "Earth, Wind & Fire"),
        ("Artist: 坂本龍一", "坂本龍一"),
        ("nothing to be seen", "The artist"),
    ],
)
def test_the_artist_is_named(client: openai.OpenAI, text: str, name: str) -> None:
    assert ask(client, "responses", text).output_text.startswith(f"{name} ")


def test_length_and_text_can_be_set(api: FakeApi, client: openai.OpenAI) -> None:
    api.script(words=200)
    assert 200 <= len(ask(client, "responses").output_text.split()) < 220
    api.script(text="As it is:\u2028\U0001f3b7")
    assert ask(client, "chat").choices[0].message.content == "As it is:\u2028\U0001f3b7"


def test_the_requests_own_limit_cuts_the_text(client: openai.OpenAI) -> None:
    response = ask(client, "responses", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    completion = ask(client, "chat", max_completion_tokens=16)
    assert completion.choices[0].finish_reason == "length"


def test_messages_as_lists_and_stored_prompts_are_taken(client: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": [{"type": "input_text", "text": "name: Fela Kuti"}]}]
    assert client.responses.create(model="m", input=given).output_text.startswith("Fela Kuti ")
    stored: Any = {"id": "pmpt_1", "variables": {"artist_name": "Fela Kuti"}}
    assert client.responses.create(prompt=stored).output_text.startswith("Fela Kuti ")


def test_models_and_their_shutdown_dates(api: FakeApi, client: openai.OpenAI) -> None:
    api.script(models="stays, goes=2026-12-11")
    dates = {model.id: model.shutdown_date for model in client.models.list()}
    assert dates == {"stays": None, "goes": "2026-12-11"}
    assert client.models.retrieve("goes").shutdown_date == "2026-12-11"
    with pytest.raises(openai.NotFoundError) as info:
        client.models.retrieve("never")
    assert info.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        ask(client, "chat")


def test_a_wrong_key_is_refused(api: FakeApi, client: openai.OpenAI) -> None:
    api.script(api_key="sk-other")
    with pytest.raises(openai.AuthenticationError):
        ask(client, "responses")
    api.script(api_key="sk-test")
    ask(client, "responses")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": "m"}', 400),
        (b'{"input": "x"}', 400),
        (b'{"model": "m", "input": 1}', 400),
        (b'{"model": "m", "input": "x", "stream": true}', 400),
    ],
)
def test_a_request_that_the_api_would_not_take_is_refused(
    api: FakeApi, content: bytes, status: int
) -> None:
    connection = http.client.HTTPConnection(api.host, api.port, timeout=10)
    connection.request("POST", "/v1/responses", content)
    reply = connection.getresponse()
    assert (reply.status, "error" in json.loads(reply.read())) == (status, True)
    connection.request("POST", "/v1/completions", content)
    reply = connection.getresponse()
    assert (reply.status, "error" in json.loads(reply.read())) == (404, True)
    connection.request("GET", "/v1/responses")
    assert connection.getresponse().status == 405
    connection.close()
    assert api.counts().calls == 0


# Faults


def test_every_kind_is_of_one_sort() -> None:
    sorts = [frozenset(ERRORS), BODIES, COMPLETE_WIRE, BROKEN_WIRE, REFUSED_WIRE, {"ok"}]
    assert sum(map(len, sorts)) == len(KINDS)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", ERRORS)
def test_error_replies(api: FakeApi, client: openai.OpenAI, kind: str, endpoint: str) -> None:
    with pytest.raises(openai.APIStatusError) as info:
        ask(client, endpoint, f"[[fault:{kind}]]")
    error = ERRORS[kind]
    assert (info.value.status_code, info.value.code) == (error.status, error.code)
    assert info.value.response.json()["error"]["type"] == error.type
    assert info.value.response.headers.get("retry-after") == error.retry_after
    assert info.value.request_id
    assert api.counts().error == 1


def test_all_codes_for_a_used_up_quota_share_their_type() -> None:
    codes = {error.code for error in ERRORS.values() if error.type == "insufficient_quota"}
    assert codes == {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    }


def test_the_wait_asked_for_can_be_set(api: FakeApi) -> None:
    status, headers, _ = post(api, "[[fault:rate_limit=17]]")
    assert (status, headers["retry-after"]) == (429, "17")
    _, headers, _ = post(api, "[[fault:overloaded=20ms]]")
    assert headers["retry-after-ms"] == "20"
    assert "retry-after" not in headers
    _, headers, _ = post(api, "[[fault:rate_limit=none]]")
    assert "retry-after" not in headers


def test_refusals_have_the_shape_of_their_endpoint(client: openai.OpenAI) -> None:
    response = ask(client, "responses", "[[fault:refuse]]")
    assert response.output[0].content[0].type == "refusal"
    assert response.output_text == ""
    message = ask(client, "chat", "[[fault:refuse]]").choices[0].message
    assert message.refusal
    assert message.content is None


@pytest.mark.parametrize(
    ("kind", "reason", "finish"),
    [
        ("incomplete", "max_output_tokens", "length"),
        ("incomplete_empty", "max_output_tokens", "length"),
        ("content_filter", "content_filter", "content_filter"),
    ],
)
def test_cut_replies_say_so(client: openai.OpenAI, kind: str, reason: str, finish: str) -> None:
    response = ask(client, "responses", f"[[fault:{kind}]]")
    assert (response.status, response.incomplete_details.reason) == ("incomplete", reason)
    assert ask(client, "chat", f"[[fault:{kind}]]").choices[0].finish_reason == finish


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("empty", lambda text: text == ""),
        ("whitespace", lambda text: text and not text.strip()),
        ("nul", lambda text: "\x00" in text),
        ("surrogate", lambda text: "\ud83d" in text),
        ("line_separator", lambda text: {"\u2028", "\u2029", "\x85"} <= set(text)),
        ("long", lambda text: len(text) >= 10_000_000),
        ("long=1000", lambda text: 1000 <= len(text) < 2000),
        ("no_usage", lambda text: text.startswith("The artist")),
    ],
)
def test_texts_that_need_care(api: FakeApi, kind: str, holds: Any) -> None:
    status, _, content = post(api, f"[[fault:{kind}]]")
    assert status == 200
    assert holds(json.loads(content)["output"][0]["content"][0]["text"])


def test_separators_stand_unescaped_and_the_surrogate_escaped(api: FakeApi) -> None:
    assert "\u2028".encode() in post(api, "[[fault:line_separator]]")[2]
    assert rb"\ud83d" in post(api, "[[fault:surrogate]]")[2]


def test_bodies_that_are_no_reply(api: FakeApi) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(post(api, "[[fault:broken_json]]")[2])
    assert post(api, "[[fault:wrong_type]]")[2] == b"[]"
    assert post(api, "[[fault:wrong_type=null]]")[2] == b"null"
    assert b":NaN" in post(api, "[[fault:nan]]")[2]
    with pytest.raises(UnicodeDecodeError):
        post(api, "[[fault:not_utf8]]")[2].decode()
    assert post(api, "[[fault:html_ok]]")[1]["content-type"] == "text/html"
    assert post(api, "[[fault:html_error]]")[0] == 502
    assert post(api, "[[fault:html_error=503]]")[0] == 503
    assert post(api, "[[fault:deep]]")[2].startswith(b"[[[[")
    assert json.loads(post(api, "[[fault:failed]]")[2])["status"] == "failed"
    assert json.loads(post(api, "[[fault:queued=in_progress]]")[2])["status"] == "in_progress"
    assert json.loads(post(api, "[[fault:no_output]]")[2])["output"] == []
    assert "usage" not in json.loads(post(api, "[[fault:no_usage]]")[2])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", sorted(BODIES))
def test_every_odd_body_is_sent_and_counted_as_billed(
    api: FakeApi, kind: str, endpoint: str
) -> None:
    path = "/v1/responses" if endpoint == "responses" else "/v1/chat/completions"
    marked = f"[[fault:{kind}]]"
    content = {"model": "m", "input": marked, "messages": [{"role": "user", "content": marked}]}
    connection = http.client.HTTPConnection(api.host, api.port, timeout=10)
    connection.request("POST", path, json.dumps(content))
    assert connection.getresponse().status == 200
    connection.close()
    assert api.counts().answered == 1


def test_unusual_ways_that_are_sound(api: FakeApi, client: openai.OpenAI) -> None:
    plain = ask(client, "responses").output_text
    for kind in ("chunked", "gzip", "no_length", "drip=0.05", "close_after", "continue_100"):
        api.script(schedule=kind)
        assert ask(client, "responses").output_text == plain
    assert api.counts().answered == 7


def test_the_unusual_ways_are_what_they_say(api: FakeApi) -> None:
    status, headers, content = post(api, "[[fault:gzip]]")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert json.loads(gzip.decompress(content))
    assert post(api, "[[fault:chunked]]")[1]["transfer-encoding"] == "chunked"
    assert "content-length" not in post(api, "[[fault:no_length]]")[1]
    huge = raw_reply(api, raw_request("[[fault:huge_headers]]", "Connection: close"))
    assert huge.index(b"\r\n\r\n") > 200_000
    interim = raw_reply(api, raw_request("[[fault:continue_100]]", "Connection: close"))
    assert interim.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("kind", ["truncated", "chunked_cut"])
def test_cut_bodies(api: FakeApi, kind: str) -> None:
    with pytest.raises(http.client.IncompleteRead):
        post(api, f"[[fault:{kind}]]")
    assert wait_for(api, cut=1).statuses == {"200": 1}


def test_broken_replies(api: FakeApi) -> None:
    for kind in ("reset", "reset_before"):
        with pytest.raises(ConnectionResetError):
            post(api, f"[[fault:{kind}]]")
    with pytest.raises(http.client.RemoteDisconnected):
        post(api, "[[fault:close]]")
    with pytest.raises(http.client.BadStatusLine):
        post(api, "[[fault:garbage]]")
    assert b"\r\n\r\n" not in raw_reply(api, raw_request("[[fault:half_head]]"))
    with pytest.raises(EOFError):
        gzip.decompress(post(api, "[[fault:gzip_broken]]")[2])
    with pytest.raises(TimeoutError):
        post(api, "[[fault:hang]]", timeout=0.2)
    counts = api.counts()
    assert counts.cut == len(BROKEN_WIRE) - 2  # truncated and chunked_cut stand above
    assert counts.error == 1  # reset_before, for which nothing was done
    assert counts.in_flight == 0


def test_a_redirect_names_its_target(api: FakeApi, client: openai.OpenAI) -> None:
    status, headers, _ = post(api, "[[fault:redirect=http://127.0.0.1:1/v1/x]]")
    assert (status, headers["location"]) == (307, "http://127.0.0.1:1/v1/x")


def test_connections_reset_as_they_open(api: FakeApi) -> None:
    api.script(reset_connections=1)
    # The RST may come while the request is still being written.
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        raw_reply(api, raw_request())
    assert api.counts().calls == 0
    assert post(api)[0] == 200


# Which call a fault happens to


def test_markers_are_used_up_in_order_by_each_artist(api: FakeApi) -> None:
    text = "[[fault:rate_limit*2]] [[fault:server_error*1]]"

    def statuses(artist: str) -> list[int]:
        return [post(api, text, request_id=f"run-{artist}-{n}")[0] for n in range(4)]

    assert statuses("a") == [429, 429, 500, 200]
    assert statuses("b") == [429, 429, 500, 200]


def test_a_schedule_goes_by_the_order_of_arrival(api: FakeApi) -> None:
    api.script(schedule="ok*2, server_error, rate_limit=3*2")
    assert [post(api)[0] for _ in range(6)] == [200, 200, 500, 429, 429, 200]
    api.script(schedule="ok, conflict", repeat=True)
    assert [post(api)[0] for _ in range(5)] == [200, 409, 200, 409, 200]


def test_a_schedule_goes_on_when_something_else_is_changed(api: FakeApi) -> None:
    api.script(schedule="server_error*2, ok")
    assert post(api)[0] == 500
    api.script(words=10)
    assert [post(api)[0] for _ in range(2)] == [500, 200]


def test_chances_depend_on_seed_and_request_and_not_on_the_order(api: FakeApi) -> None:
    texts = [f"name: {n}" for n in range(60)]

    def statuses(order: list[str]) -> dict[str, int]:
        api.script(chances="server_error@0.3, conflict@0.2", seed=7)
        return {text: post(api, text, request_id=f"r-{text}-{order[0]}")[0] for text in order}

    first = statuses(texts)
    assert {200, 409, 500} == set(first.values())
    assert sum(status == 500 for status in first.values()) == pytest.approx(18, abs=12)
    fresh = Plan(Behaviour(chances="server_error@0.3, conflict@0.2", seed=8))
    assert fresh.behaviour.seed == 8
    with FakeApi(chances="server_error@0.3, conflict@0.2", seed=7) as other:
        assert {text: post(other, text)[0] for text in reversed(texts)} == first


@pytest.mark.parametrize("wrong", ["explode", "reset*x", "reset@", "Reset"])
def test_a_fault_that_does_not_exist_is_refused_by_name(api: FakeApi, wrong: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        parse_faults(wrong)
    with pytest.raises(ValueError, match="is no fault"):
        api.script(schedule=wrong)
    assert post(api, f"[[fault:{wrong}]]")[0] == 400


def test_wrong_options_are_refused_by_name(api: FakeApi) -> None:
    with pytest.raises(ValueError, match="latencies"):
        api.script(latencies=1)
    with pytest.raises(ValueError, match="uniform:1"):
        api.script(latency="uniform:1")


# Time


@pytest.mark.parametrize(
    "latency", ["uniform:0.01:0.02", "normal:0.02:0.001", "lognormal:0.02:0.1", "exponential:0.01"]
)
def test_latency_has_distributions(latency: str) -> None:
    delay = Plan(Behaviour(latency=latency)).delay
    drawn = [delay() for _ in range(200)]
    assert 0 <= min(drawn) < max(drawn) < 1
    assert sum(drawn) / 200 == pytest.approx(0.015, abs=0.01)


def test_calls_wait_beside_each_other(api: FakeApi) -> None:
    api.script(latency=0.2)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert {future[0] for future in pool.map(lambda _: post(api), range(20))} == {200}
    assert 0.2 <= time.monotonic() - started < 2


# What the server tells


def test_calls_are_counted_per_artist_and_text(api: FakeApi) -> None:
    post(api, request_id="run-7-1")
    post(api, "[[fault:server_error*1]]", request_id="run-a%2Fb%20-%20c-1")
    post(api, "[[fault:server_error*1]]", request_id="run-a%2Fb%20-%20c-2")
    post(api, "no id")
    counts = api.counts()
    assert (counts.calls, counts.answered, counts.error) == (4, 3, 1)
    assert counts.seen_by_artist["a/b - c"] == 2
    assert counts.answered_by_artist["a/b - c"] == 1
    assert counts.answered_by_artist["7"] == 1
    assert sum(counts.answered_by_artist.values()) == 3
    assert [artist for artist in counts.seen_by_artist if artist.startswith("sha256:")]
    assert sorted(counts.answered_by_text.values()) == [1, 1, 1]
    assert counts.statuses == {"200": 3, "500": 1}


def test_run_and_artist_may_both_be_uuids(api: FakeApi) -> None:
    run, artist = "1e79f1b5-4b6e-4d39-8f6a-9d1c6c0b2a11", "0a4f7c3e-9f5d-4f0f-a3a1-2d4b9c8e7f60"
    post(api, request_id=f"{run}-{artist}-1")
    assert api.counts().answered_by_artist == {artist: 1}


def test_the_artist_can_be_found_in_the_text(api: FakeApi) -> None:
    api.script(artist_text=r"born: (\d+)")
    post(api, request_id="run-7-1")
    assert api.counts().answered_by_artist == {"1933": 1}


def test_a_client_that_leaves_is_counted_as_gone(api: FakeApi) -> None:
    api.script(latency=30)
    with socket.create_connection((api.host, api.port)) as connection:
        connection.sendall(raw_request())
        assert wait_for(api, in_flight=1).calls == 1
    assert wait_for(api, gone=1).in_flight == 0


def test_the_log_has_a_line_a_call(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    with FakeApi(log=log, schedule="ok, rate_limit, truncated") as api:
        post(api, request_id="run-1-1")
        post(api, request_id="run-2-1")
        with pytest.raises(http.client.IncompleteRead):
            post(api, request_id="run-2-2")
        lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    told = [tuple(line[key] for key in ("request_id", "artist", "status")) for line in lines]
    assert told == [("run-1-1", "1", 200), ("run-2-1", "2", 429), ("run-2-2", "2", 200)]
    assert [line["ending"] for line in lines] == ["answered", "error", "cut"]


def test_the_last_requests_can_be_read(api: FakeApi, client: openai.OpenAI) -> None:
    ask(client, "responses", extra_headers={"X-Client-Request-Id": "run-1-1"})
    seen = api.requests()[-1]
    assert (seen["method"], seen["target"]) == ("POST", "/v1/responses")
    assert seen["headers"]["authorization"] == "Bearer sk-test"
    assert seen["headers"]["x-client-request-id"] == "run-1-1"
    assert json.loads(seen["body"])["input"] == INPUT


# HTTP


def test_a_connection_is_kept_and_requests_may_follow_at_once(api: FakeApi) -> None:
    api.script(latency=0.01)
    many = raw_request() * 4 + raw_request(INPUT, "Connection: close")
    assert raw_reply(api, many).count(b"HTTP/1.1 200 OK") == 5
    assert api.counts().connections <= 3  # this one and those of the questions asked


def test_a_request_may_arrive_byte_by_byte(api: FakeApi) -> None:
    with socket.create_connection((api.host, api.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in raw_request(INPUT, "Connection: close"):
            connection.send(bytes([byte]))
        assert connection.recv(20).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_asks_to_go_on_is_told_to(api: FakeApi) -> None:
    head, _, content = raw_request(INPUT, "Expect: 100-continue", "Connection: close").partition(
        b"\r\n\r\n"
    )
    with socket.create_connection((api.host, api.port), timeout=10) as connection:
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(content)
        assert connection.recv(20).startswith(b"HTTP/1.1 200 OK")


def test_what_is_not_spoken_is_refused(api: FakeApi) -> None:
    chunked = b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert raw_reply(api, chunked).startswith(b"HTTP/1.1 411 ")
    assert raw_reply(api, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000).startswith(b"HTTP/1.1 431 ")


# The process


def test_the_command_prints_its_address() -> None:
    command = [sys.executable, "-m", "tests.fakes.api", "--latency", "0.001", "--words", "5"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["pid"] == process.pid
        connection = http.client.HTTPConnection(told["host"], told["port"], timeout=10)
        connection.request("POST", "/v1/responses", body())
        assert connection.getresponse().status == 200
        connection.close()
        process.terminate()


def test_the_fake_ends_with_the_process_that_started_it() -> None:
    script = (
        "from tests.fakes.api import FakeApi\n"
        "with FakeApi() as api:\n"
        "    print(api.pid, flush=True)\n"
        "    input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    fake = os.pidfd_open(int(parent.stdout.readline()))
    try:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
        assert select.select([fake], [], [], 10)[0]
    finally:
        os.close(fake)


def test_an_option_that_does_not_exist_stops_the_start(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start"), FakeApi(nonsense=1):
        pass
    assert "nonsense" in capfd.readouterr().err
