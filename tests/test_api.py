from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artist_bio_gen.errors import (
    ArtistBioGenError,
    CallFailed,
    ConfigError,
    LimitError,
    Unavailable,
    Unusable,
)
from artist_bio_gen.generator.api import (
    MAX_TEXT,
    Answer,
    Api,
    StoredPrompt,
    build_body,
    read_reply,
)
from artist_bio_gen.generator.http1 import Reply
from artist_bio_gen.generator.status import asked_wait, parse_duration, reset_wait
from artist_bio_gen.values import Json, Usage

BIO = "Nina Simone was a singer."
APIS: tuple[Api, ...] = ("responses", "chat")
VARIABLES = {"artist_name": "N", "artist_data": "born: 1933"}


# Requests


def body(api: Api, *, at_openai: bool = False, **given: Any) -> Any:
    asked: dict[str, Any] = {
        "model": "m",
        "prompt": ("Be brief.", "Nina"),
        "variables": VARIABLES,
        "parameters": {},
    }
    return json.loads(build_body(api, **{**asked, **given}, at_openai=at_openai))


def test_responses_request() -> None:
    parameters = {"temperature": 0.0, "max_output_tokens": 300}
    assert body("responses", parameters=parameters) == {
        "model": "m",
        "instructions": "Be brief.",
        "input": "Nina",
        "temperature": 0.0,
        "max_output_tokens": 300,
    }


@pytest.mark.parametrize(
    ("at_openai", "limit"), [(True, "max_completion_tokens"), (False, "max_tokens")]
)
def test_chat_request_names_the_limit_as_the_server_knows_it(at_openai: bool, limit: str) -> None:
    parameters = {"temperature": 0.5, "max_output_tokens": 300}
    assert body("chat", parameters=parameters, at_openai=at_openai) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Nina"},
        ],
        "temperature": 0.5,
        limit: 300,
    }


def test_what_is_not_given_is_not_sent() -> None:
    assert body("responses", model=None, prompt=("", "Nina")) == {"input": "Nina"}
    assert body("chat", prompt=("", "Nina"))["messages"] == [{"role": "user", "content": "Nina"}]


def test_stored_prompt_goes_without_an_input() -> None:
    assert body("responses", model=None, prompt=StoredPrompt("pmpt_1", "3")) == {
        "prompt": {"id": "pmpt_1", "version": "3", "variables": VARIABLES}
    }
    assert "version" not in body("responses", prompt=StoredPrompt("pmpt_1"))["prompt"]


# Replies that are bios


def response(text: Json = BIO, **changes: Json) -> dict[str, Json]:
    return {
        "id": "resp_1",
        "created_at": 1_760_000_000,
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": text}]},
        ],
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 64},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 150,
        },
        **changes,
    }


def completion(text: Json = BIO, finish_reason: Json = "stop", **changes: Json) -> dict[str, Json]:
    message = {"role": "assistant", "content": text, "refusal": None, **changes}
    return {
        "id": "chatcmpl_1",
        "created": 1_760_000_000,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 64},
            "completion_tokens": 50,
            "completion_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 150,
        },
    }


USAGE = Usage(100, 64, 50, 20, 150)
MAKE = {"responses": response, "chat": completion}


def read(document: Json, api: Api = "responses", *, limit: int | None = None) -> Answer:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_reply(Reply(200, {}, data), api, about="model m", max_output_tokens=limit)


def unusable(document: Json, api: Api = "responses", *, limit: int | None = None) -> Unusable:
    with pytest.raises(Unusable) as caught:
        read(document, api, limit=limit)
    return caught.value


def test_complete_reply_is_an_answer() -> None:
    assert read(response()) == Answer(BIO, False, "resp_1", 1_760_000_000, "completed", USAGE)
    assert read(completion(), "chat") == Answer(
        BIO, False, "chatcmpl_1", 1_760_000_000, "stop", USAGE
    )


def test_text_in_parts_is_joined_and_commentary_left_out() -> None:
    def message(*texts: str, **more: str) -> Json:
        return {"type": "message", "content": [{"type": "output_text", "text": t} for t in texts],
                **more}  # fmt: skip

    output = [message("Let me see.", phase="commentary"), message("A ", "b"), message(" c.")]
    assert read(response(output=output)).text == "A b c."
    parts = [{"type": "text", "text": "A "}, {"type": "text", "text": "b."}, "?"]
    assert read(completion(parts), "chat").text == "A b."


@pytest.mark.parametrize("api", APIS)
def test_answer_is_cleaned(api: Api) -> None:
    answer = read(MAKE[api](f' "{BIO} [1]"\n'), api)
    assert (answer.text, answer.cleaned) == (BIO, False)
    answer = read(MAKE[api](f"{BIO}\x00"), api)
    assert (answer.text, answer.cleaned) == (BIO, True)


@pytest.mark.parametrize("api", APIS)
def test_lone_surrogate_and_nan_do_not_cost_a_text_that_is_paid_for(api: Api) -> None:
    data = json.dumps({**MAKE[api](BIO + "\ud800"), "odd": float("nan")}).encode()
    assert b"\\ud800" in data
    assert b"NaN" in data
    answer = read(data, api)
    assert (answer.text, answer.cleaned) == (BIO, True)
    assert answer.usage == USAGE


@pytest.mark.parametrize("api", APIS)
def test_line_separators_stay(api: Api) -> None:
    assert read(MAKE[api]("One.\u2028Two.\u0085"), api).text == "One.\u2028Two."


@pytest.mark.parametrize("api", APIS)
def test_usage_that_is_missing_or_odd_is_unknown_and_not_zero(api: Api) -> None:
    for usage in (None, [], {}, {"total_tokens": "9"}, {"input_tokens": True, "prompt_tokens": -1}):
        assert read({**MAKE[api](), "usage": usage}, api).usage is None
    partial = read({**MAKE[api](), "usage": {"total_tokens": 0, "input_tokens": 1e400}}, api).usage
    assert partial == Usage(total_tokens=0)


@pytest.mark.parametrize("api", APIS)
def test_odd_identity_of_a_reply_costs_no_text(api: Api) -> None:
    answer = read({**MAKE[api](), "id": 7, "created": "now", "created_at": None}, api)
    assert (answer.text, answer.response_id, answer.created) == (BIO, None, None)


# Replies that are none


def test_reply_cut_at_its_limit_is_unusable_and_keeps_what_was_paid_for() -> None:
    incomplete = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    for error in (unusable(response(**incomplete)), unusable(completion(BIO, "length"), "chat")):
        assert error.kind == "incomplete"
        assert error.text == BIO
        assert error.response_id in ("resp_1", "chatcmpl_1")
        assert error.usage is not None
        assert error.usage["output_tokens"] == 50
        assert "--max-output-tokens" in str(error)


def test_response_that_says_completed_and_used_its_limit_is_cut() -> None:
    assert unusable(response(), limit=50).kind == "incomplete"
    assert read(response(), limit=51).text == BIO


@pytest.mark.parametrize(
    ("document", "api"),
    [
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}),
         "responses"),
        (response(status="failed", error={"code": "bio_policy", "message": "no"}), "responses"),
        (completion(BIO, "content_filter"), "chat"),
    ],
)  # fmt: skip
def test_filtered_reply(document: Json, api: Api) -> None:
    assert unusable(document, api).kind == "content_filter"


@pytest.mark.parametrize(
    ("document", "api"),
    [
        (response(output=[{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]),
         "responses"),
        (completion(None, refusal="No."), "chat"),
        (completion([{"type": "refusal", "refusal": "No."}]), "chat"),
    ],
)  # fmt: skip
def test_refusal(document: Json, api: Api) -> None:
    error = unusable(document, api)
    assert (error.kind, error.text) == ("refused", "No.")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("text", ["", " \n\t", "\x00", "\u2026", '""', "```\n```", "---", None, 7])
def test_text_without_a_word_is_empty(api: Api, text: Json) -> None:
    assert unusable(MAKE[api](text), api).kind == "empty"


@pytest.mark.parametrize("api", APIS)
def test_text_of_a_model_that_ran_away_is_no_bio(api: Api) -> None:
    error = unusable(MAKE[api]("la " * 3_400_000), api)
    assert error.kind == "too_long"
    assert error.text is not None
    assert len(error.text) <= MAX_TEXT


@pytest.mark.parametrize("reason", ["tool_calls", "function_call", None, "mystery", 7])
def test_reply_that_does_not_say_it_is_complete_is_none(reason: Json) -> None:
    assert unusable(completion(BIO, reason), "chat").kind == "incomplete"


def test_failed_response_may_be_asked_for_again_unless_its_prompt_is_the_reason() -> None:
    error = {"code": "server_error", "message": "Sorry."}
    with pytest.raises(CallFailed, match=r"server_error: Sorry\.") as caught:
        read(response(status="failed", error=error, output=[]))
    assert (caught.value.kind, caught.value.answered) == ("server_error", True)
    bad = response(status="failed", error={"code": "invalid_prompt", "message": "x"})
    assert unusable(bad).kind == "bad_request"
    with pytest.raises(CallFailed):
        read(completion(BIO, "abort"), "chat")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'"text"', b"7", b"NaN", b"<html></html>", b"\xff\xfe{}",
     b"[" * 100_000, b'{"a":' * 100_000, json.dumps(response()).encode()[:-1], b"9" * 10_000,
     json.dumps({"status": "completed"}).encode()[:-3] + b'"\xff"}', b"{} {}",
     b'\xef\xbb\xbf"bom"', b'{"error":{"message":"in a reply with status 200"}}', b"{}",
     b'{"status":"queued","choices":[]}', b'{"status":[],"choices":{}}', b'{"choices":[7]}',
     b'{"choices":[{"message":[]}]}'],
)  # fmt: skip
def test_reply_that_is_no_answer_may_be_asked_for_again(api: Api, data: bytes) -> None:
    with pytest.raises(CallFailed) as caught:
        read(data, api)
    assert (caught.value.kind, caught.value.answered) == ("bad_reply", True)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "message", "refusal"]), inner)
    ),
    max_leaves=8,
)
PLACES: Mapping[Api, tuple[tuple[str | int, ...], ...]] = {
    "responses": (
        ("id",), ("status",), ("output",), ("output", 1), ("output", 1, "content"), ("usage",),
        ("output", 1, "content", 0), ("output", 1, "content", 0, "text"), ("created_at",),
        ("incomplete_details",), ("error",), ("usage", "output_tokens"),
        ("usage", "output_tokens_details"),
    ),
    "chat": (
        ("id",), ("choices",), ("choices", 0), ("choices", 0, "message"), ("usage",),
        ("choices", 0, "message", "content"), ("choices", 0, "message", "refusal"), ("created",),
        ("choices", 0, "finish_reason"), ("usage", "completion_tokens"),
    ),
}  # fmt: skip


def outcome(data: bytes, api: Api, status: int = 200, headers: Any = None) -> None:
    """Reads a reply that may hold anything: an answer or a typed error, both storable."""
    told: Answer | Unusable
    try:
        told = read_reply(
            Reply(status, headers or {}, data), api, about="model m", max_output_tokens=60
        )
    except (CallFailed, Unavailable, LimitError, ConfigError) as exc:
        str(exc).encode()
        return
    except Unusable as exc:
        str(exc).encode()
        told = exc
    else:
        assert told.text.strip()
    stored = (told.text or "") + (told.response_id or "")
    stored.encode()
    assert "\x00" not in stored


@given(st.data(), st.sampled_from(APIS), JSON)
def test_any_value_in_any_place_of_a_reply(data: st.DataObject, api: Api, value: Json) -> None:
    document: Any = MAKE[api]()
    *way, last = data.draw(st.sampled_from(PLACES[api]))
    at = document
    for step in way:
        at = at[step]
    at[last] = value
    outcome(json.dumps(document).encode(), api)


@given(st.binary(max_size=200), st.sampled_from(APIS), st.integers(100, 599))
def test_any_bytes_with_any_status(data: bytes, api: Api, status: int) -> None:
    outcome(data, api, status)


@given(JSON, st.sampled_from(APIS), st.integers(300, 599), st.text(max_size=40))
def test_any_document_with_any_status(value: Json, api: Api, status: int, header: str) -> None:
    names = ("retry-after", "retry-after-ms", "location", "x-request-id",
             "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens")  # fmt: skip
    data = json.dumps({"error": value}).encode()
    outcome(data, api, status, dict.fromkeys(names, header))


@pytest.mark.parametrize("api", APIS)
def test_reply_cut_at_any_byte_is_no_answer(api: Api) -> None:
    whole = json.dumps(MAKE[api]()).encode()
    for cut in range(len(whole)):
        with pytest.raises(CallFailed):
            read(whole[:cut], api)


# Errors


def error(
    status: int,
    code: Json = None,
    *,
    kind: str = "",
    param: Json = None,
    message: str = "Because.",
    headers: Mapping[str, str] | None = None,
    now: float = 0.0,
) -> ArtistBioGenError:
    document = {"error": {"code": code, "type": kind, "param": param, "message": message}}
    reply = Reply(status, headers or {}, json.dumps(document).encode())
    with pytest.raises(ArtistBioGenError) as caught:
        read_reply(reply, "responses", about="model m", now=now)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "rate_limit_exceeded", "rate_limit_exceeded"),
        (429, "slow_down", "slow_down"),
        (429, None, "rate_limit_exceeded"),
        (429, "resource_unavailable", "rate_limit_exceeded"),
        (503, "server_is_overloaded", "server_is_overloaded"),
        (503, "slow_down", "slow_down"),
        (503, None, "overloaded"),
        (529, None, "overloaded"),
    ],
)
def test_server_that_wants_us_to_wait(status: int, code: str | None, kind: str) -> None:
    raised = error(status, code, headers={"retry-after": "7"})
    assert isinstance(raised, Unavailable)
    assert (raised.kind, raised.retry_after) == (kind, 7.0)


@pytest.mark.parametrize(
    "code",
    ["insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
     "project_spend_limit_exceeded", "organization_usage_limit_exceeded"],
)  # fmt: skip
@pytest.mark.parametrize("status", [429, 403])
def test_used_up_money_stops_the_run_and_says_what_to_do(status: int, code: str) -> None:
    for raised in (error(status, code), error(status, "new_code", kind="insufficient_quota")):
        assert isinstance(raised, LimitError)
        assert "--resume" in str(raised)
    assert isinstance(error(402), LimitError)


@pytest.mark.parametrize(
    ("status", "code", "param", "says"),
    [
        (401, "invalid_api_key", None, "OPENAI_API_KEY"),
        (403, "unsupported_country_region_territory", None, "may not use model m"),
        (404, "model_not_found", None, "--model"),
        (403, "model_not_found", None, "--model"),
        (400, "model_not_found", "model", "--model"),
        (404, None, None, "--base-url"),
        (405, None, None, "--api chat"),
        (407, None, None, "HTTP_PROXY"),
        (400, "unsupported_parameter", "max_tokens", "max_tokens does not suit model m"),
        (400, None, "temperature", "temperature does not suit model m"),
    ],
)
def test_setting_that_does_not_fit_stops_the_run(
    status: int, code: str | None, param: str | None, says: str
) -> None:
    raised = error(status, code, param=param)
    assert isinstance(raised, ConfigError)
    assert says in str(raised)
    assert "Because." in str(raised)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_stops_the_run(status: int) -> None:
    raised = error(status, headers={"location": "https://else.test/v1"})
    assert isinstance(raised, ConfigError)
    assert "https://else.test/v1" in str(raised)
    assert "--base-url" in str(raised)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(400, "context_length_exceeded", "bad_request"), (422, None, "bad_request"),
     (413, None, "bad_request"), (400, "content_filter", "content_filter"),
     (400, "string_above_max_length", "bad_request"), (418, None, "bad_request")],
)  # fmt: skip
def test_request_that_will_never_be_served(status: int, code: str | None, kind: str) -> None:
    raised = error(status, code, param="input")
    assert isinstance(raised, Unusable)
    assert raised.kind == kind
    assert "Because." in str(raised)
    assert (code or "") in str(raised)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, "timeout"), (409, "conflict"), (500, "server_error"), (502, "server_error"),
     (504, "server_error"), (501, "server_error"), (425, "too_early")],
)  # fmt: skip
def test_failure_that_may_pass(status: int, kind: str) -> None:
    raised = error(status, headers={"retry-after-ms": "250"})
    assert isinstance(raised, CallFailed)
    assert (raised.kind, raised.answered, raised.retry_after) == (kind, True, 0.25)


@pytest.mark.parametrize("status", [100, 201, 202, 204])
def test_success_that_is_none_is_a_bad_reply(status: int) -> None:
    raised = error(status)
    assert isinstance(raised, CallFailed)
    assert raised.kind == "bad_reply"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"error": "model 'x' is loading"}, "model 'x' is loading"),
        ({"object": "error", "message": "Too long.", "code": 400}, "Too long."),
        ({"detail": "Nope."}, "Nope."),
        ({"detail": [{"loc": 1}]}, '"loc"'),
        ([], "[]"),
    ],
)
def test_errors_of_other_servers_are_shown_too(document: Json, says: str) -> None:
    reply = Reply(400, {}, json.dumps(document).encode())
    with pytest.raises(Unusable) as caught:
        read_reply(reply, "chat", about="model m")
    assert says in str(caught.value)


def test_message_is_one_short_line_with_the_request_id_and_without_a_key() -> None:
    raised = error(
        500,
        message="Key sk-proj-abc123_DEF is wrong,\n Bearer xyz.789 too. " + "x" * 5000,
        headers={"x-request-id": "req_9"},
    )
    assert "req_9" in str(raised)
    assert "abc123" not in str(raised)
    assert "xyz" not in str(raised)
    assert "\n" not in str(raised)
    assert len(str(raised)) < 500


# How long to wait


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "20", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:05 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_wait_that_is_asked_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers, now=10.0) == seconds


USED_UP_TOKENS = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        (USED_UP_TOKENS, 360.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        # The one that is nearest to used up counts.
        ({"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "99",
          "x-ratelimit-reset-requests": "7h12m", "x-ratelimit-limit-tokens": "1000",
          "x-ratelimit-remaining-tokens": "3", "x-ratelimit-reset-tokens": "1.2s"}, 1.2),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms",
          "x-ratelimit-remaining-project-tokens": "0",
          "x-ratelimit-reset-project-tokens": "8.64s"}, 8.64),
    ],
)  # fmt: skip
def test_wait_until_a_rate_limit_is_whole_again(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert reset_wait(headers) == seconds


@pytest.mark.parametrize(
    ("status", "code", "more", "seconds"),
    [
        (429, "rate_limit_exceeded", {}, 360.0),
        (429, None, {"retry-after": "soon"}, 360.0),
        (429, None, {"retry-after": "5"}, 5.0),
        (429, "slow_down", {}, None),
        (429, "resource_unavailable", {}, None),
        (503, None, {}, None),
        (500, None, {}, None),
    ],
)
def test_rate_headers_count_only_where_a_rate_limit_was_reached(
    status: int, code: str | None, more: Mapping[str, str], seconds: float | None
) -> None:
    """They come with every reply: what keeps a server from answering is another matter."""
    raised = error(status, code, headers={**USED_UP_TOKENS, **more})
    assert isinstance(raised, Unavailable | CallFailed)
    assert raised.retry_after == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("8.64s", 8.64), ("20ms", 0.02), ("1h30m5.5s", 5405.5),
     ("2d", 172800.0), ("0s", 0.0), ("7", 7.0), (" 1m ", 60.0), ("250\u00b5s", 0.00025),
     ("", None), ("s", None), ("1x", None), ("1s!", None), ("-1s", None), ("1 s", None),
     ("9" * 400 + "s", None), ("\u0661s", None)],
)  # fmt: skip
def test_duration(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.text() | st.from_regex(r"[0-9.hmsdun]{1,20}"))
def test_any_text_is_a_duration_or_none(text: str) -> None:
    seconds = parse_duration(text)
    assert seconds is None or 0 <= seconds < float("inf")
