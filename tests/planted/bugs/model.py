"""Bugs of how replies are read, calls are made again, and secrets kept."""

from __future__ import annotations

from tests.planted.bug import Bug, Change, tests_of

BUGS = (
    Bug(
        "a call that will never be served is made again",
        (
            Change(
                "generator/status.py",
                "    raise Unusable(told, kind=kind)\n",
                "    raise CallFailed(told, kind=kind, answered=True)\n",
            ),
        ),
        tests_of("test_api.py", "test_request_that_will_never_be_served"),
    ),
    Bug(
        "an unusable reply is asked for again",
        (
            Change(
                "processor/caller.py",
                """\
        except Unusable as exc:
            return self._failed(call.artist, exc, call.tries.billable)
        except _MODEL_ERRORS as exc:
            call.met""",
                """\
        except _MODEL_ERRORS as exc:
            call.met""",
            ),
            Change(
                "processor/caller.py",
                "retry_if_exception_type((Unavailable, CallFailed))",
                "retry_if_exception_type((Unavailable, CallFailed, Unusable))",
            ),
            Change(
                "processor/caller.py",
                """\
    assert isinstance(exc, Unavailable | CallFailed)
    return exc
""",
                """\
    exc.retry_after = None
    return exc
""",
            ),
            Change(
                "processor/caller.py",
                "        if isinstance(exc, CallFailed) and tries.billable",
                "        if tries.billable",
            ),
        ),
        tests_of(
            "test_caller.py",
            "test_an_unusable_reply_is_not_asked_for_again_and_what_was_paid_for_is_kept",
        ),
    ),
    Bug(
        "a wait that the server asks for counts as an attempt",
        (Change("processor/caller.py", "                tries.billable -= 1\n", ""),),
        tests_of("test_caller.py", "test_waits_that_the_server_wants_do_not_count_as_attempts"),
    ),
    Bug(
        "the package of the API makes calls again by itself",
        (Change("generator/sdk.py", "max_retries=0", "max_retries=2"),),
        tests_of(
            "integration/test_transports.py",
            "test_every_status_comes_back_with_headers_and_body_and_is_asked_once",
        ),
    ),
    Bug(
        "a reply that was cut off is stored as a bio",
        (
            Change(
                "generator/api.py",
                '    if reason != "stop":\n',
                '    if reason == "content_filter":\n',
            ),
        ),
        tests_of(
            "test_api.py",
            "test_reply_cut_at_its_limit_is_unusable_and_keeps_what_was_paid_for",
            "test_reply_that_does_not_say_it_is_complete_is_none",
        ),
    ),
    Bug(
        "a key that the server repeats is written down",
        (
            Change(
                "processor/caller.py",
                "        reason = self._redact(str(exc))\n",
                "        reason = str(exc)\n",
            ),
        ),
        tests_of("test_caller.py", "test_a_key_that_the_server_repeats_is_kept_nowhere"),
    ),
    Bug(
        "secrets are not masked",
        (
            Change(
                "masking.py",
                """\
            text = text.replace(form, MASK)
    return mask_passwords(text)""",
                """\
            pass
    return text""",
            ),
        ),
        tests_of("test_masking.py", "test_a_secret_is_nowhere_in_a_redacted_text"),
    ),
)
