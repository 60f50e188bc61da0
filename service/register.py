"""Registers a GitHub App: a page on the loopback sends a manifest to GitHub, and takes back the code for its key.

The person clicks twice; id, key and webhook secret go into files that only the user who runs this can read. Nothing is
overwritten. Left out: installing the App, which GitHub's own page does.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from service.github_app import GITHUB, api_of, form_of, manifest

KEY, SECRET, ENVIRONMENT = "app.pem", "webhook-secret", "patchwright.env"
_PATIENCE: Final = 30.0  # seconds for GitHub's answer
_SLOW_CLIENT: Final = 10.0


class RegistrationProblem(Exception):
    """No App, or no files of it; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The App to be. `address`: of the service; `github`: of GitHub's pages; `folder`: for the files."""

    name: str
    address: str
    folder: Path
    github: str = GITHUB
    organization: str = ""


def check_folder(folder: Path) -> None:
    """Raises RegistrationProblem where there are files of an App, or none can be written."""
    for name in (KEY, SECRET, ENVIRONMENT):
        if (folder / name).exists():
            raise RegistrationProblem(f"{folder / name} is there already: name another --folder, or move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".{secrets.token_hex(4)}"
        probe.touch(0o600)
        probe.unlink()
    except OSError as error:
        raise RegistrationProblem(f"nothing can be written into {folder}: {error.strerror}") from None


def register(wanted: Wanted, port: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Serve the page until the App is there; GitHub's record of it. Raises RegistrationProblem."""
    check_folder(wanted.folder)
    try:
        server = _Server(("127.0.0.1", port), _Pages)
    except OSError as error:
        raise RegistrationProblem(f"port {port} of the loopback can't be had: {error.strerror}") from None
    with server:
        visit = _Visit(wanted, server.server_port)
        server.visit = visit
        say(f"Open {visit.here}/ in a browser on this machine (from elsewhere: ssh -L {visit.port}:127.0.0.1:"
            f"{visit.port} this-machine)")  # fmt: skip
        while visit.app is None:
            server.handle_request()
    return visit.app


class _Visit:
    """One registration under way."""

    def __init__(self, wanted: Wanted, port: int) -> None:
        self.wanted, self.port = wanted, port
        self.here = f"http://127.0.0.1:{port}"
        self.state = secrets.token_urlsafe(24)
        self.app: dict[str, Any] | None = None

    def start(self) -> str:
        made = manifest(self.wanted.name, self.wanted.address, f"{self.here}/created")
        target = f"{form_of(self.wanted.github, self.wanted.organization)}?state={self.state}"
        rows = "".join(f"<li>{escape(name)}: {level}</li>" for name, level in made["default_permissions"].items())
        return (
            f"<h1>Register {escape(self.wanted.name)}</h1><p>GitHub asks you for a name and makes the App, with "
            f"these permissions:</p><ul>{rows}</ul><p>Its webhooks go to "
            f"<code>{escape(made['hook_attributes']['url'])}</code>.</p><form method=post action='{escape(target)}'>"
            f"<input type=hidden name=manifest value='{escape(json.dumps(made))}'><button>Go to GitHub</button></form>"
        )

    def take(self, query: dict[str, list[str]]) -> tuple[int, str]:
        code, state = query.get("code", [""])[0], query.get("state", [""])[0]
        if not hmac.compare_digest(state.encode(), self.state.encode()) or not code:
            return 400, "<h1>This isn't the answer to our question</h1><p>Begin again at <a href='/'>the start</a>.</p>"
        try:
            app = _exchanged(api_of(self.wanted.github), code)
            write(self.wanted, app)
        except RegistrationProblem as problem:
            return 502, f"<h1>It didn't work</h1><p>{escape(str(problem))}</p><p><a href='/'>Once more</a></p>"
        self.app = app
        install = f"{app.get('html_url', '')}/installations/new"
        return 200, (
            f"<h1>Done</h1><p>The key lies in <code>{escape(str(self.wanted.folder))}</code>. Now "
            f"<a href='{escape(install)}'>install the App</a> on the repositories.</p>"
        )


class _Server(ThreadingHTTPServer):
    """Threads, since browsers open connections on which they say nothing; closing waits for the last answer."""

    daemon_threads = False
    timeout = 0.3
    visit: _Visit


class _Pages(BaseHTTPRequestHandler):
    """The two pages, for browsers of this machine."""

    timeout = _SLOW_CLIENT
    server_version, sys_version = "patchwright", ""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        visit = self.server.visit
        at = urlsplit(self.path)
        if self.headers.get("Host", "") not in (f"127.0.0.1:{visit.port}", f"localhost:{visit.port}"):
            status, body = 400, "<h1>Ask for 127.0.0.1</h1>"
        elif at.path == "/":
            status, body = 200, visit.start()
        elif at.path == "/created":
            status, body = visit.take(parse_qs(at.query))
        else:
            status, body = 404, "<h1>Nothing here</h1>"
        self._send(status, body, visit.wanted.github)

    def _send(self, status: int, body: str, github: str) -> None:
        page = f"<!doctype html><html lang=en><meta charset=utf-8><title>Patchwright</title>{body}</html>".encode()
        self.send_response(status)
        policy = f"default-src 'none'; form-action {github}; base-uri 'none'; frame-ancestors 'none'"
        for name, value in {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page)),
                            "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer",
                            "Cache-Control": "no-store", "Connection": "close"}.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: Any) -> None:
        """Its addresses hold the code."""


def _exchanged(api: str, code: str) -> dict[str, Any]:
    """Raises RegistrationProblem."""
    import httpx2

    try:
        answer = httpx2.post(f"{api}/app-manifests/{quote(code, safe='')}/conversions", timeout=_PATIENCE)
        found = answer.json() if answer.status_code == 201 else {}
    except (httpx2.HTTPError, ValueError) as error:
        raise RegistrationProblem(f"GitHub didn't give the App's key: {type(error).__name__}") from None
    wanted = {"id": int, "slug": str, "pem": str, "webhook_secret": str}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in wanted.items()):
        raise RegistrationProblem(
            f"GitHub answered {answer.status_code} without the App's key. A code holds once and for an hour; if the "
            "App is there, make a key and a webhook secret in its settings"
        )
    return found


def environment(wanted: Wanted, app: dict[str, Any]) -> dict[str, str]:
    """The variables that the service is started with."""
    told = {
        "PATCHWRIGHT_GITHUB_APP_ID": str(app["id"]),
        "PATCHWRIGHT_GITHUB_APP_KEY_FILE": str(wanted.folder / KEY),
        "PATCHWRIGHT_WEBHOOK_SECRET_FILE": str(wanted.folder / SECRET),
        "PATCHWRIGHT_BOT_NAME": app["slug"],
        "PATCHWRIGHT_BOT_LABEL": "patchwright",
        "PATCHWRIGHT_URL": wanted.address,
    }
    return told | ({} if wanted.github == GITHUB else {"PATCHWRIGHT_GITHUB_API": api_of(wanted.github)})


def write(wanted: Wanted, app: dict[str, Any]) -> None:
    """The App's files, readable by their owner alone. Raises RegistrationProblem."""
    lines = "".join(f"{name}={value}\n" for name, value in environment(wanted, app).items())
    for name, text in ((KEY, app["pem"]), (SECRET, app["webhook_secret"]), (ENVIRONMENT, lines)):
        try:
            opened = os.open(wanted.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(opened, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise RegistrationProblem(
                f"{wanted.folder / name} can't be written ({error.strerror}), and the App is there: make a new key and "
                "webhook secret in its settings on GitHub"
            ) from None
