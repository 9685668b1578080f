from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pytest

from artist_bio_gen.errors import CallFailed, ConfigError, Unavailable, Unusable
from artist_bio_gen.generator.api import Api, StoredPrompt
from artist_bio_gen.generator.client import (
    DEFAULT_BASE_URL,
    PREFERRED_MODELS,
    check_model,
    choose_api,
    choose_model,
    fingerprint,
    is_openai,
    make_generate,
    open_transport,
    request_body,
)
from artist_bio_gen.generator.http1 import Reply
from artist_bio_gen.generator.sdk import SdkTransport
from artist_bio_gen.generator.transport import LeanTransport
from artist_bio_gen.prompts import Prompt
from artist_bio_gen.values import Artist, Json, Usage
from tests.builders import one_call
from tests.fakes.raw_http import RawServer, always, reply

ARTIST = Artist(row=3, id="a3", name="Nina Simone", data={"born": "1933"})
PROMPT = Prompt.from_text(
    "mine.j2",
    "{# version: 4 #}{% block instructions %}Be brief.{% endblock %}"
    "{% block input %}{{ artist_name }}, {{ artist_data }}{% endblock %}",
)
LOCAL = "http://127.0.0.1:9/v1"
RESPONSE: Mapping[str, Json] = {
    "id": "resp_1",
    "created_at": 1_760_000_000,
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Nina sang.\0"}]}],
    "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
}
COMPLETION: Mapping[str, Json] = {
    "id": "chatcmpl_1",
    "choices": [{"message": {"content": "Nina sang."}, "finish_reason": "stop"}],
}


@dataclass
class Canned:
    """A transport that answers from a list; an exception in it is raised."""

    replies: list[Reply | Exception]
    base_url: str = LOCAL
    asked: list[tuple[str, Any, Mapping[str, str], float]] = field(default_factory=list)

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Reply:
        self.asked.append((path, json.loads(body), headers, timeout))
        return self._next()

    def get(self, path: str, headers: Mapping[str, str], timeout: float) -> Reply:
        self.asked.append((path, None, headers, timeout))
        return self._next()

    def _next(self) -> Reply:
        answer = self.replies.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def ok(document: Json, headers: Mapping[str, str] | None = None, status: int = 200) -> Reply:
    return Reply(status, headers or {}, json.dumps(document).encode())


# One call


def test_bio_holds_what_a_ledger_line_needs() -> None:
    transport = Canned([ok(RESPONSE, {"x-request-id": "req_1"})])
    clock = itertools.count(10.0, 0.25)
    generate = make_generate(
        transport,
        api="responses",
        model="m",
        prompt=PROMPT,
        temperature=0.5,
        max_output_tokens=300,
        timeout=42.0,
        clock=lambda: next(clock),
    )
    bio = one_call(generate, ARTIST, "run-a3-1")
    assert bio.text == "Nina sang."
    assert bio.cleaned
    assert list(bio.request.items()) == [
        ("prompt", "mine.j2"),
        ("version", "4"),
        ("variables", {"artist_name": "Nina Simone", "artist_data": "born: 1933"}),
        ("model", "m"),
        ("parameters", {"temperature": 0.5, "max_output_tokens": 300}),
    ]
    assert bio.prompt_sha256 == fingerprint("m", PROMPT, bio.request["parameters"])
    assert (bio.response_id, bio.request_id, bio.created) == ("resp_1", "req_1", 1_760_000_000)
    assert (bio.finish_reason, bio.latency_ms, bio.attempts) == ("completed", 250.0, 1)
    assert bio.usage == Usage(input_tokens=10, output_tokens=5, total_tokens=15)
    ((path, body, headers, timeout),) = transport.asked
    assert (path, timeout) == ("/responses", 42.0)
    assert headers == {"X-Client-Request-Id": "run-a3-1"}
    assert body == {
        "model": "m",
        "instructions": "Be brief.",
        "input": "Nina Simone, born: 1933",
        "temperature": 0.5,
        "max_output_tokens": 300,
    }


@pytest.mark.parametrize(
    ("base_url", "limit"), [(DEFAULT_BASE_URL, "max_completion_tokens"), (LOCAL, "max_tokens")]
)
def test_chat_call(base_url: str, limit: str) -> None:
    transport = Canned([ok(COMPLETION)], base_url)
    generate = make_generate(transport, api="chat", model="m", prompt=PROMPT, max_output_tokens=300)
    bio = one_call(generate, ARTIST, "1")
    assert (bio.text, bio.finish_reason, bio.usage, bio.request_id) == (
        "Nina sang.", "stop", None, None,
    )  # fmt: skip
    path, body, *_ = transport.asked[0]
    assert path == "/chat/completions"
    assert body[limit] == 300
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_stored_prompt() -> None:
    transport = Canned([ok(RESPONSE)])
    generate = make_generate(
        transport, api="responses", model=None, prompt=StoredPrompt("pmpt_1", "2")
    )
    bio = one_call(generate, ARTIST, "1")
    variables = {"artist_name": "Nina Simone", "artist_data": "born: 1933"}
    assert transport.asked[0][1] == {
        "prompt": {"id": "pmpt_1", "version": "2", "variables": variables}
    }
    assert bio.request == {
        "prompt_id": "pmpt_1",
        "version": "2",
        "variables": variables,
        "model": None,
        "parameters": {},
    }


def test_stored_prompt_does_not_exist_in_chat() -> None:
    with pytest.raises(ConfigError, match=r"--prompt-id pmpt_1.*--api responses"):
        make_generate(Canned([]), api="chat", model="m", prompt=StoredPrompt("pmpt_1"))


def test_errors_of_transport_and_api_come_through_and_nothing_is_repeated() -> None:
    errors: list[Exception] = [
        Unavailable("x", kind="unreachable"),
        CallFailed("x", kind="reset", answered=False),
    ]
    transport = Canned([*errors, ok({"error": {"code": "slow_down"}}, status=503)])
    generate = make_generate(transport, api="responses", model="m", prompt=PROMPT)
    for error in errors:
        with pytest.raises(type(error)) as caught:
            one_call(generate, ARTIST, "1")
        assert caught.value is error
    with pytest.raises(Unavailable, match="slow_down"):
        one_call(generate, ARTIST, "1")
    assert len(transport.asked) == 3


def test_date_to_wait_for_is_measured_from_now() -> None:
    busy = ok({}, {"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, status=429)
    generate = make_generate(
        Canned([busy]), api="responses", model="m", prompt=PROMPT, now=lambda: 90.0
    )
    with pytest.raises(Unavailable) as caught:
        one_call(generate, ARTIST, "1")
    assert caught.value.retry_after == 10.0


@pytest.mark.parametrize("prompt", [PROMPT, StoredPrompt("pmpt_1")])
@pytest.mark.parametrize("data", [{"born": "\ud800"}, {"born": ["\ud800", 1]}])
def test_data_that_cannot_be_sent_fails_its_artist_before_the_call(
    prompt: Prompt | StoredPrompt, data: Mapping[str, Json]
) -> None:
    transport = Canned([])
    generate = make_generate(transport, api="responses", model="m", prompt=prompt)
    with pytest.raises(Unusable, match=r"artist a9 \(row 5\)") as caught:
        one_call(generate, Artist(row=5, id="a9", name="N", data=data), "1")
    assert caught.value.kind == "prompt"
    assert transport.asked == []


def test_request_can_be_seen_without_a_call() -> None:
    body = request_body("the local model", "chat", "m", PROMPT, {"temperature": 0})
    request, variables = body(ARTIST)
    assert json.loads(request)["messages"][1]["content"] == "Nina Simone, born: 1933"
    assert variables["artist_name"] == "Nina Simone"


def test_fingerprint_tells_prompt_model_and_parameters_apart() -> None:
    other = Prompt.from_text("mine.j2", "{{ artist_name }}")
    prints = [
        fingerprint("m", PROMPT, {}),
        fingerprint("n", PROMPT, {}),
        fingerprint(None, PROMPT, {}),
        fingerprint("m", other, {}),
        fingerprint("m", PROMPT, {"temperature": 0.0}),
        fingerprint("m", StoredPrompt("p"), {}),
        fingerprint("m", StoredPrompt("p", "1"), {}),
    ]
    assert len(set(prints)) == len(prints)
    both = {"temperature": 0.1, "max_output_tokens": 5}
    assert fingerprint("m", PROMPT, both) == fingerprint("m", PROMPT, dict(reversed(both.items())))


# What to call


@pytest.mark.parametrize(
    ("setting", "base_url", "api"),
    [
        ("auto", DEFAULT_BASE_URL, "responses"),
        ("auto", "https://eu.api.openai.com/v1/", "responses"),
        ("auto", "https://x.openai.azure.com/openai/v1", "chat"),
        ("auto", "https://api.openai.com.evil.test/v1", "chat"),
        ("auto", LOCAL, "chat"),
        ("chat", DEFAULT_BASE_URL, "chat"),
        ("responses", LOCAL, "responses"),
    ],
)
def test_choice_of_the_api(setting: Any, base_url: str, api: Api) -> None:
    assert choose_api(setting, base_url) == api


def test_openai_is_known_by_its_host() -> None:
    assert is_openai(DEFAULT_BASE_URL)
    assert not is_openai("http://notapi.openai.com/v1")


@pytest.mark.parametrize(("name", "kind"), [("lean", LeanTransport), ("openai", SdkTransport)])
def test_both_transports_serve_both_apis(name: Any, kind: type) -> None:
    documents: dict[Api, Mapping[str, Json]] = {"responses": RESPONSE, "chat": COMPLETION}
    for api, document in documents.items():
        with (
            RawServer(always(reply(json.dumps(document).encode()))) as server,
            open_transport(name, server.url, api_key="sk-1", org_id="org-1") as transport,
        ):
            assert isinstance(transport, kind)
            generate = make_generate(transport, api=api, model="m", prompt=PROMPT)
            assert one_call(generate, ARTIST, "run-1").text == "Nina sang."
            (request,) = server.requests
        assert request.headers["x-client-request-id"] == "run-1"
        assert request.headers["openai-organization"] == "org-1"


# Models

TODAY = datetime.date(2026, 11, 22)


def models(*names: str, **shutdown: str) -> Reply:
    return ok({"data": [{"id": n, "shutdown_date": shutdown.get(n)} for n in names]})


def test_only_model_of_a_server_is_taken() -> None:
    transport = Canned([models("qwen")])
    assert choose_model(transport, today=TODAY) == "qwen"
    assert transport.asked[0][0] == "/models"


def test_preferred_model_is_taken_where_the_key_may_use_it() -> None:
    first, second = PREFERRED_MODELS[:2]
    for names, chosen in (((first, second, "x"), first), ((second, "x"), second)):
        assert choose_model(Canned([models(*names)], DEFAULT_BASE_URL), today=TODAY) == chosen


def test_model_that_is_shut_down_is_not_taken() -> None:
    first, second = PREFERRED_MODELS[:2]
    listed = models(first, second, **{first: "2026-11-22"})
    assert choose_model(Canned([listed], DEFAULT_BASE_URL), today=TODAY) == second


@pytest.mark.parametrize(
    ("answer", "base_url", "says"),
    [
        (models("a", "b"), LOCAL, "there are a, b"),
        (models("only-one"), DEFAULT_BASE_URL, "there are only-one"),
        (models(), LOCAL, "--model"),
        (ok([]), LOCAL, "--model"),
        (ok({"data": [7, {"id": 7}]}), LOCAL, "--model"),
        (ok({}, status=404), LOCAL, "--base-url"),
        (ok({}, status=503), LOCAL, "ARTIST_BIO_GEN_MODEL"),
        (ok({"error": {"message": "no"}}, status=401), LOCAL, "OPENAI_API_KEY"),
        (Unavailable("x: cannot be reached", kind="unreachable"), LOCAL, "cannot be reached"),
    ],
)
def test_model_that_cannot_be_chosen_has_to_be_given(
    answer: Reply | Exception, base_url: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        choose_model(Canned([answer], base_url), today=TODAY)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (ok({"id": "m", "shutdown_date": "2026-12-11"}), "shut down on 2026-12-11, in 19 days"),
        (ok({"id": "m", "shutdown_date": "2026-11-22"}), "was shut down"),
        (ok({"error": {"code": "model_not_found"}}, status=404), "does not know it"),
    ],
)
def test_what_should_be_known_of_a_model(answer: Reply, says: str) -> None:
    transport = Canned([answer])
    assert says in (check_model(transport, "org/m", today=TODAY) or "")
    assert transport.asked[0][0] == "/models/org%2Fm"


@pytest.mark.parametrize(
    "answer",
    [
        ok({"id": "m", "shutdown_date": None}),
        ok({"id": "m"}),
        ok({"shutdown_date": "soon"}),
        ok({"shutdown_date": 7}),
        ok([]),
        ok({}, status=404),
        ok({"error": "x"}, status=404),
        ok({}, status=401),
        ok({}, status=500),
        Reply(200, {}, b"<html>"),
        Unavailable("x", kind="unreachable"),
        CallFailed("x", kind="timeout", answered=False),
    ],
)
def test_server_that_tells_nothing_of_a_model_is_no_error(answer: Reply | Exception) -> None:
    assert check_model(Canned([answer]), "m", today=TODAY) is None


# What stands before the API

PAGE = b"<html>Attention Required!</html>"


@pytest.mark.parametrize("status", [403, 404, 405, 410])
def test_one_artist_whom_a_firewall_turns_away_stops_no_run(status: int) -> None:
    transport = Canned([ok(RESPONSE), Reply(status, {}, PAGE), ok(RESPONSE)])
    generate = make_generate(transport, api="responses", model="m", prompt=PROMPT)
    one_call(generate, ARTIST, "1")
    with pytest.raises(Unusable, match=str(status)) as caught:
        one_call(generate, ARTIST, "2")
    assert (caught.value.kind, caught.value.transient) == ("blocked", True)
    assert one_call(generate, ARTIST, "3").text == "Nina sang."


@pytest.mark.parametrize("status", [403, 404, 405, 410])
@pytest.mark.parametrize(
    "before", [[], [ok({"error": {}}, status=500)], [Reply(200, {}, PAGE)]], ids=str
)
def test_a_page_in_place_of_the_api_stops_the_run_while_no_call_has_gone_through(
    status: int, before: list[Reply | Exception]
) -> None:
    transport = Canned([*before, Reply(status, {}, PAGE)])
    generate = make_generate(transport, api="responses", model="m", prompt=PROMPT)
    for _ in before:
        with pytest.raises((CallFailed, Unusable)):
            one_call(generate, ARTIST, "1")
    with pytest.raises(ConfigError, match=str(status)):
        one_call(generate, ARTIST, "2")


@pytest.mark.parametrize(("status", "says"), [(401, "OPENAI_API_KEY"), (403, "m"), (404, "m")])
def test_what_the_api_itself_says_stops_the_run_at_any_time(status: int, says: str) -> None:
    refusal = ok({"error": {"message": "no"}}, status=status)
    transport = Canned([ok(RESPONSE), refusal])
    generate = make_generate(transport, api="responses", model="m", prompt=PROMPT)
    one_call(generate, ARTIST, "1")
    with pytest.raises(ConfigError, match=says):
        one_call(generate, ARTIST, "2")


def test_a_key_that_is_refused_stops_the_run_whoever_says_so() -> None:
    transport = Canned([ok(RESPONSE), Reply(401, {}, PAGE)])
    generate = make_generate(transport, api="responses", model="m", prompt=PROMPT)
    one_call(generate, ARTIST, "1")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        one_call(generate, ARTIST, "2")
