"""Log records of both processes as single lines on stderr, as JSON or for a terminal, without secrets.

Whatever a record says, also its traceback, goes through `Redactor`, and no character of it can begin a line or move a
cursor. `about` says what the code within it works on, and each record made there has it as fields. Left out: where
the lines are kept, which is the service manager's.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, TextIO

from service.environment import SettingsProblem
from service.telemetry.ids import trace_id
from service.telemetry.redaction import Redactor, secrets_of

LOG: Final = logging.getLogger("patchwright.service")
FIELDS: Final = ("request", "run", "repository", "trace")
_MOST: Final = 8000  # characters of a message or of a traceback
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_QUIETER: Final = (
    "httpx2",
    "httpx",
    "httpcore2",
    "httpcore",
    "asyncio",
    "docker",
    "urllib3",
    "sqlalchemy",
    "markdown_it",
)
_OWN_HANDLERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.access")  # where somebody configured them before
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_about: ContextVar[Mapping[str, str]] = ContextVar("telemetry_about", default=_NOTHING)


@contextmanager
def about(request: str = "", run: str = "", repository: str = "") -> Iterator[None]:
    """Within it, records are about this; what isn't named stays as it was outside."""
    told = {"request": request, "run": run, "repository": repository, "trace": trace_id(request) if request else ""}
    token = _about.set({**_about.get(), **{name: value for name, value in told.items() if value}})
    try:
        yield
    finally:
        _about.reset(token)


def what() -> Mapping[str, str]:
    """What the code that is running works on, by the names of FIELDS."""
    return _about.get()


def tell(level: int, event: str, message: str = "", **fields: object) -> None:
    """One record of the service's own: `event` is its name, which stays the same; `fields` what it is about."""
    if LOG.isEnabledFor(level):
        LOG.log(level, message or event, extra={"event": event, "fields": fields})


class JsonLines(logging.Formatter):
    """`time`, `level`, `event`, `message`, FIELDS, the record's own fields, and `error` for a traceback."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        found = {name: _safe(value, self._redact) for name, value in _parts(self, record).items()}
        return json.dumps(found, ensure_ascii=True)  # all that isn't a plain character is escaped


class TextLines(logging.Formatter):
    """The same for eyes: time, level, message, fields as `name=value`, the traceback on lines that are indented."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        found = {name: _safe(value, self._redact) for name, value in _parts(self, record).items()}
        told = [str(found.pop(name)) for name in ("time", "level", "message")]
        error = str(found.pop("error", ""))
        found.pop("trace", None)
        words = [_plain(" ".join(told)), *(_plain(f"{name}={value}") for name, value in found.items())]
        lines = [f"    {_plain(line)}" for line in error.splitlines()]
        return "\n".join([" ".join(words), *lines])


def set_up(environment: Mapping[str, str], stream: TextIO | None = None) -> Redactor:
    """Sends everything that is logged in this process, or that ends a thread of it, to stderr. Raises SettingsProblem.

    `PATCHWRIGHT_LOG` is `json` or `text` (on a terminal), `PATCHWRIGHT_LOG_LEVEL` debug, info, warning or error.
    """
    out = stream or sys.stderr
    form = environment.get("PATCHWRIGHT_LOG", "").strip() or ("text" if out.isatty() else "json")
    level = environment.get("PATCHWRIGHT_LOG_LEVEL", "").strip().lower() or "info"
    if form not in ("json", "text"):
        raise SettingsProblem(f"PATCHWRIGHT_LOG is {form!r}; give json or text")
    if level not in _LEVELS:
        raise SettingsProblem(f"PATCHWRIGHT_LOG_LEVEL is {level!r}; give one of {', '.join(_LEVELS)}")
    redact = Redactor(secrets_of(environment))
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines(redact) if form == "json" else TextLines(redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.INFO))  # others' debugging is about bytes and sockets, with headers
    LOG.setLevel(_LEVELS[level])
    for name in _QUIETER:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _OWN_HANDLERS:
        logging.getLogger(name).handlers[:], logging.getLogger(name).propagate = [], True
    dbos = logging.getLogger("dbos")  # it has no words of its own on stderr where it finds a handler
    dbos.handlers[:], dbos.propagate = [handler], False
    dbos.setLevel(max(_LEVELS[level], logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda given: _uncaught(given.exc_type, given.exc_value, given.exc_traceback)
    return redact


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    LOG.critical("the process or a thread of it ended", exc_info=(kind, error, trace), extra={"event": "crashed"})


def _parts(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    found: dict[str, object] = {
        "time": f"{seconds}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "event": getattr(record, "event", "log"),
        "logger": record.name,
        "message": record.getMessage(),
    }
    found |= _about.get()
    found |= {name: value for name, value in getattr(record, "fields", {}).items() if value is not None}
    if record.exc_info and record.exc_info[0] is not None:
        found["error"] = formatter.formatException(record.exc_info)
    elif record.exc_text:
        found["error"] = record.exc_text
    return found


def _safe(value: object, redact: Redactor) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = redact(str(value))
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 2 :]}"


def _plain(text: str) -> str:
    """Without characters that end a line, move the cursor or turn the direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        char if char == " " or unicodedata.category(char)[0] not in "CZ" else char.encode("unicode_escape").decode()
        for char in text
    )
