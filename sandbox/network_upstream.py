"""The way out of the proxy: straight to an address, or through the proxy that this machine itself has to use.

Left out: who may go where (`sandbox.network`). Names that go through another proxy are resolved there.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from sandbox.network_http import MAX_HEAD, Refused, Request
from sandbox.network_settings import HOST_NAME

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class HostProxy:
    """A proxy in this machine's environment; `authorization` is a header line or nothing."""

    host: str
    port: int
    authorization: bytes = b""


def host_proxy(request: Request) -> HostProxy | None:
    """What `http_proxy`, `https_proxy` and `no_proxy` say for a request. Raises Refused for what we can't use."""
    url = getproxies_environment().get("https" if request.is_tunnel else "http")
    if not url or request.host in (HOST_NAME, "localhost") or proxy_bypass(f"{request.host}:{request.port}"):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise Refused(502, f"this machine's proxy is one that can't be used from here ({parts.scheme or 'no'} scheme)")
    line = b""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        line = b"proxy-authorization: Basic " + base64.b64encode(user) + b"\r\n"
    return HostProxy(parts.hostname, parts.port or 80, line)


async def opened(request: Request, address: str, proxy: HostProxy | None) -> Streams:
    """A connection over which the request's first bytes can be sent. Raises OSError or Refused."""
    if proxy is None:
        return await asyncio.open_connection(address, request.port)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    if request.is_tunnel:
        try:
            await _asked_on(reader, writer, request, proxy)
        except BaseException:  # whatever it was: a connection that nobody gets must not stay open
            writer.close()
            raise
    return reader, writer


async def _asked_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, proxy: HostProxy
) -> None:
    name = f"[{request.host}]" if ":" in request.host else request.host
    place = f"{name}:{request.port}".encode()
    writer.write(b"CONNECT " + place + b" HTTP/1.1\r\nhost: " + place + b"\r\n" + proxy.authorization + b"\r\n")
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise Refused(502, "this machine's own proxy gave no answer") from None
    status = head[:MAX_HEAD].split(b" ", 2)[1:2]
    if status != [b"200"]:
        shown = status[0].decode("ascii", "replace")[:10] if status else "nothing"
        raise Refused(502, f"this machine's own proxy answered {shown}")


def first_bytes(request: Request, proxy: HostProxy | None) -> bytes:
    """What is sent of a plain request: to another proxy with the whole URL."""
    if proxy is None or request.is_tunnel:
        return request.forwarded
    method, _, rest = request.forwarded.partition(b" ")
    line, _, headers = rest.partition(b"\r\n")
    place = f"http://{request.host}:{request.port}".encode()
    return method + b" " + place + line + b"\r\n" + proxy.authorization + headers
