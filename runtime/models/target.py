"""What a user names as the model, read in one place: which kind it is, and where.

`http://gpu:30000/v1/`, `sglang:gpu:30000` and `HTTP://GPU:30000/generate` name the same server, and everybody who
asks gets the same address for them. A name, a password or a query in a URL is refused: the address is shown and kept
in the logs of runs. Left out: what is at the address (`detect`), and opening it (`connect`, `hosts`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from runtime.models.base import ModelRefused

FORMS: Final = (
    "http://HOST:PORT of a model server, the same behind sglang:, vllm:, llamacpp: or chat: (chat:URL#MODEL where it "
    "has several), dashscope:MODEL, openrouter:MODEL, ollama:MODEL, a folder with a checkpoint, embedded:HUB_ID, or "
    "script:FILE for a scripted model"
)
URL: Final = "url"  # the kind of a server that wasn't said to be of any
EMBEDDED: Final = "embedded"
SCRIPT: Final = "script"
SERVERS: Final = frozenset({"sglang", "ktransformers", "vllm", "llamacpp", "chat"})
HOSTED: Final = ("dashscope", "openrouter", "ollama")

_PORTS: Final = {"http": 80, "https": 443}
_ENDINGS: Final = ("/chat/completions", "/completions", "/completion", "/generate", "/v1")
_LOGIN: Final = re.compile(r"//\S*@")


@dataclass(frozen=True, slots=True)
class Target:
    """What was named."""

    kind: str  # `URL`, `EMBEDDED`, `SCRIPT`, one of the `SERVERS` or one of the `HOSTED`
    where: str  # a server's address without an ending slash, a path, a hub id, or the name of a hosted model
    model: str | None = None  # of a server that may have several

    @property
    def address(self) -> str | None:
        """The server's URL; None for what is no server."""
        return self.where if self.kind == URL or self.kind in SERVERS else None


def read_target(text: str) -> Target:
    """What `text` names. Raises `ModelRefused` for what has none of the `FORMS`, or an address that can't be one."""
    kind, colon, rest = text.partition(":")
    if kind.lower() in _PORTS and rest.startswith("//"):
        return _server(URL, text)
    if colon and rest and kind in SERVERS:
        return _server(kind, rest)
    if colon and rest and kind in (EMBEDDED, SCRIPT, *HOSTED):
        return Target(kind, rest)
    if _is_folder(text):
        return Target(EMBEDDED, text)
    hint = f" For a server, write http://{shown(text)}." if ":" in text or text == "localhost" else ""
    if kind in SERVERS or kind in (EMBEDDED, SCRIPT, *HOSTED):
        hint = f" Behind {kind}: something is missing."
    raise ModelRefused(f"{shown(text)!r} names no model: there is no such folder.{hint} A model is {FORMS}.")


def base_url(url: str) -> str:
    """The server's address in a URL or HOST:PORT: lower case, without the usual port, slashes, the API's version and
    the path of an endpoint, which users copy along. Raises `ModelRefused` where it can't be one."""
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        host, port = _host(parts), parts.port
    except ValueError as error:  # UnicodeError is one: a name that no resolver takes
        raise ModelRefused(f"{shown(url)} can't be asked: {error}. Write http://HOST:PORT.") from error
    if "@" in parts.netloc:
        raise ModelRefused(
            f"{shown(url)} has a name or a password in it, and addresses are shown and logged. Leave it out; a key "
            "goes into PATCHWRIGHT_API_KEY."
        )
    if parts.query:
        raise ModelRefused(
            f"{shown(url)} has a query, and addresses are shown and logged. Leave out everything from the question "
            "mark on; a key goes into PATCHWRIGHT_API_KEY."
        )
    where = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{where}{_path(parts.path)}"


def line_of(address: str) -> str:
    """What all spellings of one server's address have in common, names of this machine's loopback among them."""
    parts = urlsplit(base_url(address))
    host = (parts.hostname or "").rstrip(".")
    if is_near(host):
        host = "127.0.0.1"
    return f"{host}:{parts.port or _PORTS[parts.scheme]}{parts.path}"


def shown(text: str) -> str:
    """The text as messages may have it: without a login and a query, and not at any length."""
    text = _LOGIN.sub("//***@", text)
    before, mark, _ = text.partition("?")
    return f"{before[:200]}{mark}{'***' if mark else ''}"


def refuse_secrets(text: str) -> None:
    """Raises `ModelRefused` for a target with a login or a query in its address, which must get into no log."""
    if _LOGIN.search(text) or ("//" in text and "?" in text):
        read_target(text)
        raise ModelRefused(f"{shown(text)} has a login or a query in it: leave it out.")


def _server(kind: str, url: str) -> Target:
    url, _, model = url.partition("#")
    return Target(kind, base_url(url), model or None)


def _host(parts: SplitResult) -> str:
    """The name as URLs have it. Raises ValueError."""
    name = parts.hostname
    if parts.scheme not in _PORTS or not name:
        raise ValueError(f"{shown(parts.geturl())!r} is no http:// or https:// URL of a server")
    if re.search(r"[\s\x00-\x1f\x7f]", parts.netloc + parts.path):
        raise ValueError("it has a space or a control character in it")
    if ":" in name:
        return f"[{name}]"
    name.encode("idna")
    return name


def is_near(host: str) -> bool:
    """Whether it is an address of this machine's loopback, or of all its interfaces."""
    try:
        found = ip_address(host)
    except ValueError:
        return host == "localhost"
    return found.is_loopback or found.is_unspecified


def _path(path: str) -> str:
    found = path.rstrip("/")
    for ending in _ENDINGS:
        found = found.removesuffix(ending)
    return found.rstrip("/")


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):  # too long, or with a NUL in it
        return False
