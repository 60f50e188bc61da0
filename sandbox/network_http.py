"""The little HTTP and TLS that the proxy has to read, strictly: what is unusual is refused, never guessed at.

Pure functions over bytes. Left out: connections and what is allowed (`sandbox.network_proxy`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sandbox.network import normal_host

MAX_HEAD = 16 << 10
MAX_HEADERS = 100
MAX_HELLO = 32 << 10

_REQUEST = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x09\x20-\x7e\x80-\xff]*)")
_CONNECT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@?#]+):([0-9]{1,5})")
# of the connection, not of the request; or ours to say
_DROPPED = {
    b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"host", b"expect",
    b"proxy-authorization", b"proxy-authenticate",
}  # fmt: skip
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _ENCRYPTED_HELLO = 22, 1, 0, 0xFE0D


class Refused(Exception):
    """A request that isn't passed on, with the status that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    host: str
    port: int
    forwarded: bytes = b""  # what a plain HTTP server is sent; empty for CONNECT

    @property
    def is_tunnel(self) -> bool:
        return self.method == "CONNECT"


def parse_request(head: bytes) -> Request:
    """A request out of its head, which ends with the empty line. Raises Refused."""
    first, *lines = head[:-4].split(b"\r\n")
    if any(byte in line for line in (first, *lines) for byte in b"\r\n\0"):
        raise Refused(400, "a line that ends in something other than CR LF")
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise Refused(400, "no request line")
    headers = _headers(lines)
    method, target = found[1].decode(), found[2].decode()
    if method == "CONNECT":
        return Request(method, *_authority(target))
    if method not in ("GET", "HEAD"):
        raise Refused(405, f"{method} isn't passed on, only GET, HEAD and CONNECT")
    names = [name for name, _ in headers]
    lengths = {value.strip() for name, value in headers if name == b"content-length"}
    if b"transfer-encoding" in names or lengths - {b"0"}:
        raise Refused(400, "a request with a body isn't passed on")
    return _plain(method, target, headers)


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > MAX_HEADERS:
        raise Refused(431, f"more than {MAX_HEADERS} header lines")
    headers = []
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Refused(400, "a header line that is none")
        headers.append((found[1].lower(), found[2]))
    if sum(name == b"host" for name, _ in headers) > 1:
        raise Refused(400, "more than one Host")
    return headers


def _authority(text: str) -> tuple[str, int]:
    found = _CONNECT.fullmatch(text)
    host = normal_host(found[1]) if found else None
    port = int(found[2]) if found else 0
    if host is None or not 0 < port < 65536:
        raise Refused(400, "CONNECT needs host:port")
    return host, port


def _plain(method: str, target: str, headers: list[tuple[bytes, bytes]]) -> Request:
    try:
        parts = urlsplit(target)
        port = 80 if parts.port is None else parts.port
    except ValueError:
        raise Refused(400, "a URL that is none") from None
    host = normal_host(parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc)
    if parts.scheme != "http" or host is None or not port:
        raise Refused(400, "a proxy is asked with http://host/path or CONNECT host:port")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = host if port == 80 else f"{host}:{port}"
    lines = [f"{method} {path} HTTP/1.1".encode(), b"host: " + named.encode(), b"connection: close"]
    lines += [name + b": " + value for name, value in headers if name not in _DROPPED and name != b"content-length"]
    return Request(method, host, port, b"\r\n".join([*lines, b"", b""]))


def server_name(data: bytes) -> str | None:
    """The name that a TLS client asks for, in its first bytes; "" when it names none, None while more is needed.

    Raises Refused for what isn't TLS, and for a name that is encrypted: it could be any.
    """
    hello = bytearray()
    at = 0
    while at + 5 <= len(data):
        kind, major, size = data[at], data[at + 1], int.from_bytes(data[at + 3 : at + 5])
        if kind != _HANDSHAKE or major != 3 or not 0 < size <= 1 << 14:
            raise Refused(403, "only TLS may be spoken to a package index")
        hello += data[at + 5 : at + 5 + size]
        at += 5 + size
        if len(hello) >= 4:
            length = int.from_bytes(hello[1:4])
            if hello[0] != _CLIENT_HELLO or length > MAX_HELLO:
                raise Refused(403, "TLS that doesn't begin with a client's hello")
            if len(hello) >= 4 + length:
                return _name_of(bytes(hello[4 : 4 + length]))
    if data and data[0] != _HANDSHAKE:
        raise Refused(403, "only TLS may be spoken to a package index")
    return None


def _name_of(hello: bytes) -> str:
    rest = hello[34:]  # version, random
    rest = rest[1 + rest[0] :] if rest else rest  # session
    rest = rest[2 + int.from_bytes(rest[:2]) :]  # cipher suites
    rest = rest[1 + rest[0] :] if rest else rest  # compression
    rest = rest[2 : 2 + int.from_bytes(rest[:2])]  # extensions
    name = ""
    while len(rest) >= 4:
        kind, size = int.from_bytes(rest[:2]), int.from_bytes(rest[2:4])
        body, rest = rest[4 : 4 + size], rest[4 + size :]
        if kind == _ENCRYPTED_HELLO:
            raise Refused(403, "an encrypted name of a server isn't passed on")
        if kind == _SERVER_NAME:
            name = body[5 : 5 + int.from_bytes(body[3:5])].decode("ascii", "replace")
    return name
