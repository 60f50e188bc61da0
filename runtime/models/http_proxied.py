"""The way to a model server through the proxy that the environment names, with httpx2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2

from runtime.models.http_wire import ConnectError, IdleError, TransportError, whole_body


class ProxiedTransport:
    """See `runtime.models.http_client.Transport`."""

    def __init__(self, url: str, headers: Mapping[str, str], *, connect_timeout: float, idle_timeout: float) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.AsyncClient(
            headers=dict(headers),
            timeout=httpx2.Timeout(idle_timeout, connect=connect_timeout, pool=None),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        )

    @property
    def resting(self) -> bool:
        return True  # the pool doesn't say

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> _ProxiedResponse:
        try:
            request = self._client.build_request(method, self._url + path, content=body, headers=headers)
            return _ProxiedResponse(await self._client.send(request, stream=True))
        except httpx2.TransportError as error:
            raise _translated(error, ConnectError) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise ConnectError(str(error)) from error

    async def close(self) -> None:
        await self._client.aclose()


class _ProxiedResponse:
    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._response.aiter_raw():
                yield data
        except httpx2.TransportError as error:
            raise _translated(error, TransportError) from error

    async def read(self) -> bytes:
        return await whole_body(self.status, self.chunks())

    async def close(self) -> None:
        await self._response.aclose()


def _translated(error: httpx2.TransportError, kind: type[TransportError]) -> TransportError:
    text = str(error) or type(error).__name__
    return IdleError(text) if isinstance(error, httpx2.ReadTimeout) else kind(text)
