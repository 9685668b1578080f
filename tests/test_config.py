from __future__ import annotations

import os
import types
import typing
from pathlib import Path

import pytest

from artist_bio_gen import config
from artist_bio_gen.config import OPTIONS, Settings, load, secrets
from artist_bio_gen.config.source import SourceOptions
from artist_bio_gen.errors import ConfigError

KEY = "sk-canary-0123456789abcdefWXYZ"


def write(folder: Path, name: str, *lines: str) -> None:
    folder.joinpath(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_flags_come_before_environment_before_env_files_before_defaults(tmp_path: Path) -> None:
    names = ("ARTIST_BIO_GEN_WORKERS", "ARTIST_BIO_GEN_TABLE", "ARTIST_BIO_GEN_MODEL")
    write(tmp_path, ".env", *(f"{name}=4" for name in names), "ARTIST_BIO_GEN_PROGRESS=plain")
    write(tmp_path, ".env.local", *(f"{name}=3" for name in names))
    settings = load(
        {"workers": "1", "table": None},
        {"ARTIST_BIO_GEN_WORKERS": "2", "ARTIST_BIO_GEN_TABLE": "2"},
        tmp_path,
    )
    found = {
        name: (getattr(settings, name), settings.origin(name))
        for name in ("workers", "table", "model", "progress", "max_attempts")
    }
    assert found == {
        "workers": (1, "flag"),
        "table": ("2", "env ARTIST_BIO_GEN_TABLE"),
        "model": ("3", ".env.local"),
        "progress": ("plain", ".env"),
        "max_attempts": (5, "default"),
    }


def test_known_names_of_others_are_read(tmp_path: Path) -> None:
    settings = load(
        {},
        {
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1/",
            "OPENAI_ORG_ID": "org",
            "OPENAI_PROMPT_ID": "pmpt",
            "DATABASE_URL": "postgresql://h/db",
        },
        tmp_path,
    )
    assert settings.api_key == KEY
    assert settings.base_url == "http://127.0.0.1:8080/v1"
    assert (settings.org_id, settings.prompt_id) == ("org", "pmpt")
    assert settings.origin("database_url") == "env DATABASE_URL"


def test_an_empty_variable_is_none_and_the_next_place_is_asked(tmp_path: Path) -> None:
    write(tmp_path, ".env", "DATABASE_URL=postgresql://h/db")
    settings = load({}, {"DATABASE_URL": "", "OPENAI_API_KEY": ""}, tmp_path)
    assert (settings.database_url, settings.origin("database_url")) == ("postgresql://h/db", ".env")
    assert settings.api_key is None


def test_a_flag_that_is_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"database_url = '' \(from flag\): must be a text"):
        load({"database_url": ""}, {}, tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("input", "a.csv", "a.csv"),
        ("output", "~/out.jsonl", Path.home() / "out.jsonl"),
        ("workers", " 64 ", 64),
        ("timeout", "90", 90.0),
        ("timeout", "1.5m", 90.0),
        ("timeout", "2h", 7200.0),
        ("grace", "30s", 30.0),
        ("temperature", "0", 0.0),
        ("resume", "yes", True),
        ("resume", "0", False),
        ("header", "off", False),
        ("data_columns", 'nationality, "born, year",genre', ("nationality", "born, year", "genre")),
        ("comment", "none", ""),
        ("comment", "--", "--"),
        ("delimiter", "tab", "\t"),
        ("delimiter", "\\t", "\t"),
        ("delimiter", "blank", " "),
        ("delimiter", "|", "|"),
        ("split_id", "newline", "\n"),
        ("split_id", "; ", ";"),
        ("params", '{"born": 1933}', {"born": 1933}),
        ("error_threshold", "0.25", 0.25),
        ("columns", 'id,"born, year"', ("id", "born, year")),
        ("log_flush", "sync", "sync"),
        ("log_flush", "100", 100),
        ("api", "chat", "chat"),
    ],
)
def test_values_are_read_into_their_types(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    found = getattr(load({name: text}, {}, tmp_path), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("workers", "0", "a whole number from 1 to 10000"),
        ("workers", "many", "a whole number from 1 to 10000"),
        ("max_rows", "-1", "a whole number from 1 to 1000000000000"),
        ("timeout", "0", "a time such as 90, 90s, 2m or 1h"),
        ("timeout", "nan", "a time such as"),
        ("timeout", "1e308", "up to 480h"),
        ("max_wait", "481h", "up to 480h"),
        ("max_rows", "1" + "0" * 20, "a whole number from 1 to 1000000000000"),
        ("max_output_tokens", "1" + "0" * 5000, "a whole number from 1 to"),
        ("min_free_mb", "1" + "0" * 20, "a whole number from 0 to"),
        ("model", "gpt-\udcff", "UTF-8"),
        ("table", "\udcff", "UTF-8"),
        ("comment", "\udcff", "UTF-8"),
        ("org_id", "\udcff", "UTF-8"),
        ("data_columns", "a,\udcff", "UTF-8"),
        ("database_url", "postgresql://u@h/\udcff", "UTF-8"),
        ("base_url", "http://h/\udcff", "UTF-8"),
        ("model", "gpt\0", "without a NUL"),
        ("output", "out\0", "without a NUL"),
        ("timeout", "1e400", "a time such as"),
        ("timeout", "s", "a time such as"),
        ("temperature", "2.5", "a number from 0 to 2"),
        ("temperature", "nan", "a number from 0 to 2"),
        ("api", "soap", "one of auto, responses, chat"),
        ("resume", "perhaps", "true or false"),
        ("base_url", "api.openai.com", "http:// or https://"),
        ("data_columns", "a,,b", "names with commas"),
        ("delimiter", ",,", "one character, or tab"),
        ("params", "[1]", "a JSON object"),
        ("params", "{", "a JSON object"),
        ("error_threshold", "1.5", "a number from 0 to 1"),
        ("memory_limit", "49", "a whole number from 50"),
        ("log_flush", "never", "line, sync, or a whole number"),
        ("output", "~nobody-of-that-name/out", "a path"),
    ],
)
def test_a_bad_value_is_named_with_its_origin_and_what_is_allowed(
    tmp_path: Path, name: str, text: str, allowed: str
) -> None:
    option = OPTIONS[name]
    with pytest.raises(ConfigError) as raised:
        load({}, {option.env: text}, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"{name} = {text!r} (from env {option.env}): must be ")
    assert allowed in message


def test_a_bad_value_does_not_show_a_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load({"base_url": "ftp://user:canary@h"}, {}, tmp_path)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("name", ["input", "output", "log_file", "local_model"])
def test_a_path_may_have_bytes_that_are_no_utf_8(name: str, tmp_path: Path) -> None:
    loaded = load({}, {OPTIONS[name].env: "a\udcff"}, tmp_path)
    assert str(getattr(loaded, name)) == "a\udcff"


def test_a_proxys_password_may_have_bytes_that_are_no_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://u:caf\udce9@h")
    assert "caf\udce9" in secrets(load({}, {}, tmp_path))


def test_an_env_file_that_is_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(ConfigError, match=r"\.env: is no regular file"):
        load({}, {}, tmp_path)


def test_a_mistyped_variable_stops_and_the_near_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"in the environment.*did you mean ARTIST_BIO_GEN_WORK"):
        load({}, {"ARTIST_BIO_GEN_WORKRES": "4"}, tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean OPENAI_BASE_URL"):
        load({}, {"ARTIST_BIO_GEN_BASE_URL": "http://127.0.0.1"}, tmp_path)
    write(tmp_path, ".env", "ARTIST_BIO_GEN_QQQ=4")
    with pytest.raises(ConfigError, match=r"in \.env.*artist-bio-gen --help"):
        load({}, {}, tmp_path)


def test_an_unknown_flag_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="worker"):
        load({"worker": 4}, {}, tmp_path)


def test_an_env_file_that_cannot_be_parsed_is_refused_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, ".env", "OPENAI_ORG_ID=a", 'DATABASE_URL="half')
    with pytest.raises(ConfigError, match=r"\.env line 2"):
        load({}, {}, tmp_path)


def test_an_env_file_that_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath(".env").write_bytes(b"OPENAI_ORG_ID=\xff")
    with pytest.raises(ConfigError, match=r"\.env: cannot be read"):
        load({}, {}, tmp_path)


def test_an_env_file_may_begin_with_a_bom_and_hold_names_of_others(tmp_path: Path) -> None:
    tmp_path.joinpath(".env").write_text("\ufeffOPENAI_ORG_ID=org\nPATH_OF_OTHERS\nX=1\n", "utf-8")
    assert load({}, {}, tmp_path).org_id == "org"


def test_nothing_shows_a_secret(tmp_path: Path) -> None:
    settings = load(
        {"database_url": "postgresql://u:canary@h/db"},
        {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://me:canary@proxy/v1"},
        tmp_path,
    )
    for text in (repr(settings), str(config.masked(settings)), config.command_line(settings)):
        assert "canary" not in text
    assert config.masked(settings)["api_key"] == "***WXYZ"
    assert config.masked(settings)["database_url"] == "postgresql://u:***@h/db"
    assert set(config.secrets(settings)) == {KEY, "canary"}


def test_a_source_is_told_nothing_but_its_own_options(tmp_path: Path) -> None:
    settings = load(
        {"input": "a.csv", "max_rows": 7, "id_column": "key"},
        {"OPENAI_API_KEY": KEY, "SUPABASE_KEY": "canary-of-the-source"},
        tmp_path,
    )
    options = config.source_options(settings)
    assert type(options) is SourceOptions
    assert (options.max_rows, options.id_column) == (7, "key")
    assert KEY not in repr(options)
    assert "canary" not in repr(options)
    assert options.source_key == "canary-of-the-source"
    assert "canary" not in repr(settings)
    assert "canary-of-the-source" in secrets(settings)


def test_masked_settings_are_json_values(tmp_path: Path) -> None:
    settings = load({"data_columns": "a,b", "output": "x.jsonl"}, {}, tmp_path)
    masked = config.masked(settings)
    assert list(masked) == list(OPTIONS)
    assert (masked["data_columns"], masked["output"]) == (["a", "b"], "x.jsonl")


def test_the_command_that_resumes_repeats_flags_and_nothing_else(tmp_path: Path) -> None:
    settings = load(
        {
            "input": "my artists.csv",
            "header": False,
            "data_columns": ("a", "b, c"),
            "timeout": 90.0,
        },
        {"ARTIST_BIO_GEN_WORKERS": "4"},
        tmp_path,
    )
    assert config.command_line(settings, resume=True) == (
        "artist-bio-gen --input 'my artists.csv' --data-columns 'a,\"b, c\"' --no-header "
        "--timeout 90 --resume"
    )


def test_a_flag_reads_again_what_the_command_line_writes(tmp_path: Path) -> None:
    columns = 'a,"b, c","say ""d"""'
    given = {
        "data_columns": columns,
        "timeout": "0.25",
        "grace": "1h",
        "max_wait": "1234567",
        "temperature": "0.1234567",
        "comment": "none",
        "delimiter": "tab",
        "split_id": "blank",
        "header_separator": "newline",
        "params": '{"name": "Zoë \\"Z\\" Björk", "born": null}',
    }
    settings = load(given, {}, tmp_path)
    assert (settings.max_wait, settings.temperature) == (1234567.0, 0.1234567)
    again = {name: OPTIONS[name].written(getattr(settings, name)) for name in settings.origins}
    assert load(again, {}, tmp_path) == settings
    # What click has read already.
    typed = {name: getattr(settings, name) for name in settings.origins}
    assert load(typed, {}, tmp_path) == settings
    assert "--comment none" in config.command_line(settings)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_every_option_is_described(option: config.Option) -> None:
    assert option.help.endswith(".")
    assert option.default is not None or option.otherwise, "what holds when it is not given?"
    assert option.flag is not None or option.secret, "only secrets have no flag"


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_defaults_can_be_written_and_fit_their_types(option: config.Option) -> None:
    declared = typing.get_type_hints(Settings)[option.name]
    if option.default is not None and option.default != "":
        assert option.read(option.default, "default") == option.default
    members = typing.get_args(declared) if isinstance(declared, types.UnionType) else (declared,)
    for choice in option.kind.choices:
        assert any(choice in typing.get_args(member) for member in members)


def test_every_option_has_a_variable_of_its_own() -> None:
    assert len({option.env for option in OPTIONS.values()}) == len(OPTIONS)
