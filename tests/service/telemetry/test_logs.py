"""Log lines: one record a line, fields that stay, no secret in any form, nothing that moves a terminal's cursor."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.environment import SettingsProblem
from service.telemetry import logs
from service.telemetry.ids import trace_id
from service.telemetry.redaction import HIDDEN, Redactor, secrets_of

WEBHOOK = "correct-horse-battery-staple"
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAxxYYzzQQwwEErrTTyyUUii\n"
    "secondLineOfTheKeyThatIsLong0123\n-----END RSA PRIVATE KEY-----"
)
ENVIRONMENT = {
    "PATCHWRIGHT_WEBHOOK_SECRET": WEBHOOK,
    "PATCHWRIGHT_GITHUB_APP_KEY": KEY,
    "PATCHWRIGHT_DATABASE": "postgresql://bot:p%40ss%2Fword-of-db@db/service",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20b3BlcmF0b3I6c2VjcmV0",
    "HOME": "/home/user-with-a-long-name",
}


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """The logging of this process, put back."""
    names = (None, "dbos", "patchwright.service", *logs._QUIETER, *logs._OWN_HANDLERS)
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]
    hooks = sys.excepthook, logs.threading.excepthook
    yield
    for one, handlers, level, propagate in before:
        one.handlers[:], one.level, one.propagate = handlers, level, propagate
        one.setLevel(level)
    sys.excepthook, logs.threading.excepthook = hooks
    logging.captureWarnings(False)


class Lines:
    """Everything that was logged since."""

    def __init__(self, form: str = "json", level: str = "debug", **more: str) -> None:
        self.stream = io.StringIO()
        environment = {**ENVIRONMENT, **more, "PATCHWRIGHT_LOG": form, "PATCHWRIGHT_LOG_LEVEL": level}
        logs.set_up(environment, self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


HOSTILE = [
    f"the secret is {WEBHOOK}",
    f"as base64 {base64.b64encode(WEBHOOK.encode()).decode()}",
    "as a part of the password p@ss/word-of-db",
    "in an address p%40ss%2Fword-of-db",
    KEY,
    "secondLineOfTheKeyThatIsLong0123",
    "Authorization: Bearer abcdefghijklmnop1234",
    "https://x-access-token:abc123@github.com/octo/calc.git",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345 ghs_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0abcdefghijklmnop_0123456789",
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NTYifQ.c2lnbmF0dXJl",
    "pw_00112233aabb_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "Basic b3BlcmF0b3I6c2VjcmV0",
]
GONE = [
    WEBHOOK, base64.b64encode(WEBHOOK.encode()).decode().rstrip("="), "word-of-db", "MIIEowIBAAKCAQEA",
    "secondLineOfTheKeyThatIsLong0123", "abcdefghijklmnop1234", "abc123@", "ghp_", "ghs_", "github_pat_",
    "eyJhbGciOiJSUzI1NiJ9", "pw_00112233aabb", "b3BlcmF0b3I6c2VjcmV0",
]  # fmt: skip


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_form_of_a_secret_is_written(form: str, as_it_was: None) -> None:
    lines = Lines(form)
    for words in HOSTILE:
        logging.getLogger("service.somewhere").warning("about %s", words)
        logs.tell(logging.INFO, "an event", words, given=words)
        with logs.about("r1", repository=words):
            logs.tell(logging.INFO, "an event")
        try:
            raise ValueError(words) from OSError(words)
        except ValueError:
            logging.getLogger("uvicorn.error").exception("it broke")
    assert [one for one in GONE if one in lines.text] == []
    assert lines.text.count(HIDDEN) >= 4 * len(HOSTILE)


def test_the_net_lets_words_pass() -> None:
    plain = (
        "GitHub limits our requests (GET /repos/octo/calc/issues/7): try again in 12 s; token bucket is empty, "
        "see https://docs.example.org/a@b and /home/user-with-a-long-name, bearer of news, sk-short, e@mail.example"
    )
    assert Redactor(secrets_of(ENVIRONMENT))(plain) == plain
    assert Redactor(["short"])("a short word") == "a short word"


def test_secrets_are_found_in_files_and_addresses(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file-0123\n")
    given = {
        "PATCHWRIGHT_GITHUB_TOKEN_FILE": str(tmp_path / "key"),
        "PATCHWRIGHT_METRICS_TOKEN_FILE": str(tmp_path / "none"),
        "HTTPS_PROXY": "http://me:proxy-password@proxy:3128",
        "OPENAI_API_KEY": "the-key-of-a-host",
        "PATCHWRIGHT_MAX_STEPS": "12345678",
    }
    assert set(secrets_of(given)) >= {"from-a-file-0123", "proxy-password", "the-key-of-a-host"}
    assert "12345678" not in secrets_of(given)


def test_a_record_is_one_line_with_its_fields(as_it_was: None) -> None:
    lines = Lines()
    hostile = 'x"}\n{"level":"error","event":"forged"}\r\x1b[2J\x00\u2028\u202e\x85 end \ud800'
    with logs.about("r0123", repository=hostile), logs.about(run="20260101-000000-aaaa"):
        logs.tell(logging.WARNING, "forge trouble", hostile, status=502, route="/user", nothing=None)
    logging.getLogger("service.x").info("plain %s", hostile)
    first, second = lines.records()
    assert set(first) == {
        "time", "level", "event", "logger", "message", "request", "run", "repository", "trace", "status", "route",
    }  # fmt: skip
    assert (first["event"], first["level"], first["status"]) == ("forge trouble", "warning", 502)
    assert (first["request"], first["run"], first["trace"]) == ("r0123", "20260101-000000-aaaa", trace_id("r0123"))
    assert first["message"] == hostile
    assert "request" not in second
    assert lines.text.isascii()


def test_text_for_a_terminal_is_one_line_too(as_it_was: None) -> None:
    lines = Lines("text")
    logs.tell(logging.WARNING, "an event", "first\nsecond \x1b[31mred\u202e", given="a\rb")
    try:
        raise ValueError("over\ntwo lines \x1b[0m")
    except ValueError:
        logging.getLogger("service.x").exception("broken")
    first, second, *trace = lines.text.splitlines()
    assert "first\\nsecond \\x1b[31mred\\u202e" in first
    assert "given=a\\rb" in first
    assert "broken" in second
    assert trace
    assert all(line.startswith("    ") for line in trace)
    assert "\x1b" not in lines.text


def test_others_are_quieter_and_levels_hold(as_it_was: None) -> None:
    lines = Lines(level="info")
    logging.getLogger("httpx2").info("HTTP Request: GET https://api.github.com")
    logging.getLogger("dbos").info("a story")
    logs.tell(logging.DEBUG, "delivery")
    logging.getLogger("dbos").error("its database is away")
    logging.getLogger("uvicorn.error").error("a connection broke")
    assert [one["message"] for one in lines.records()] == ["its database is away", "a connection broke"]


def test_debugging_is_ours_alone(as_it_was: None) -> None:
    lines = Lines(level="debug")
    logging.getLogger("a.library").debug("headers and bytes")
    logs.tell(logging.DEBUG, "delivery")
    assert [one["event"] for one in lines.records()] == ["delivery"]


@pytest.mark.parametrize(("name", "value"), [("PATCHWRIGHT_LOG", "xml"), ("PATCHWRIGHT_LOG_LEVEL", "loud")])
def test_a_setting_that_isnt_one_is_named(name: str, value: str, as_it_was: None) -> None:
    with pytest.raises(SettingsProblem, match=f"{name} is '{value}'"):
        logs.set_up({name: value}, io.StringIO())


def test_what_ends_a_process_or_a_thread_is_a_record_as_well() -> None:
    code = (
        "import os, threading\n"
        "from service.telemetry import logs\n"
        "logs.set_up(os.environ)\n"
        f"one = threading.Thread(target=lambda: int('{WEBHOOK}'))\n"
        "one.start(); one.join()\n"
        f"raise ValueError('{WEBHOOK}')\n"
    )
    environment = {**os.environ, **ENVIRONMENT, "PATCHWRIGHT_LOG": "json"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["event"] for one in records] == ["crashed", "crashed"]
    assert all("ValueError" in one["error"] for one in records)
    assert WEBHOOK not in done.stderr + done.stdout
    assert done.returncode == 1
