"""`POST /webhooks/github`: from bytes to a stored wish, and only then an answer.

In this order, so that what is forged costs least: the signature's form, the body, the signature, headers, JSON, what
is asked, rates, the store. 202 says that it is on the disk; 200 that nothing is asked, or nothing new. All else isn't
stored, and sending it again is right where `Retry-After` says so. Left out: doing it.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from service.store import Outcome, Recorder, StoreUnavailable
from service.webhooks.model import ASKS_FOR_WORK, Delivery, Myself, Refused, WishKind
from service.webhooks.rates import RateLimits
from service.webhooks.reading import read
from service.webhooks.signature import verify, well_formed

_LOG = logging.getLogger("patchwright.service")
_GUID = re.compile(r"[A-Za-z0-9-]{1,100}", re.ASCII)
_EVENT = re.compile(r"[a-z_]{1,60}", re.ASCII)
_LIMITED: Final = ASKS_FOR_WORK | {WishKind.HELP}  # what ends work is always let through


class Answered(NamedTuple):
    """How a delivery was answered, for who counts. `request`: the id of what it asks for, where it was stored."""

    response: Response
    outcome: str
    request: str | None = None


class Intake:
    """`counts` says how many deliveries were answered with which outcome."""

    def __init__(self, recorder: Recorder, secrets: Sequence[bytes], me: Myself, rates: RateLimits) -> None:
        self._recorder, self._secrets, self._me, self._rates = recorder, tuple(secrets), me, rates
        self.counts: Counter[str] = Counter()

    async def github(self, request: Request) -> Answered:
        answer = Answered(*await self._answer(request))
        self.counts[answer.outcome] += 1
        return answer

    async def _answer(self, request: Request) -> tuple[Response, str] | tuple[Response, str, str | None]:
        given = request.headers.getlist("x-hub-signature-256")
        signature = given[0] if len(given) == 1 else None
        if not well_formed(signature):
            return _problem(401, "X-Hub-Signature-256 is missing or no sha256 signature", close=True), "unsigned"
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400), "gone"
        if not verify(self._secrets, body, signature):
            return _problem(401, "the signature isn't this webhook's"), "unsigned"
        guid, event = request.headers.get("x-github-delivery", ""), request.headers.get("x-github-event", "")
        if not _GUID.fullmatch(guid) or not _EVENT.fullmatch(event):
            return _problem(400, "X-GitHub-Delivery or X-GitHub-Event is missing or malformed"), "malformed"
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return _problem(415, "set the webhook's content type to application/json"), "malformed"
        try:
            payload = _parse(body)
        except (ValueError, RecursionError) as error:
            return _problem(400, f"the body is no JSON that is read here ({type(error).__name__})"), "malformed"
        delivery = read(event, guid, payload, self._me)
        if isinstance(delivery, Refused):
            _LOG.warning("delivery %s (%s) refused: %s", guid, event, delivery.reason)
            return _problem(422, delivery.reason), "malformed"
        return await self._store(delivery)

    async def _store(self, delivery: Delivery) -> tuple[Response, str] | tuple[Response, str, str | None]:
        if not delivery.lasting:
            return _said({"outcome": Outcome.NOTHING, "why": delivery.why_not}), Outcome.NOTHING
        who = (delivery.repository_id, delivery.sender.id if delivery.sender else 0)
        limited = delivery.wish is not None and delivery.wish.kind in _LIMITED
        wait = self._rates.take(who) if limited else 0.0
        if wait:
            return _problem(429, "this repository or person asks too often", again=wait), "limited"
        try:
            received = await self._recorder.record(delivery)
        except StoreUnavailable as error:
            _LOG.error("delivery %s isn't stored: %s", delivery.guid, error)
            return _problem(503, "the service can't store it now; send it again", again=5), "unavailable"
        if limited and received.outcome is not Outcome.NEW:
            self._rates.give_back(who)
        found = {"outcome": received.outcome, "request": received.request, "why": delivery.why_not or None}
        said = {key: value for key, value in found.items() if value is not None}
        return _said(said, 202 if received.outcome is Outcome.NEW else 200), received.outcome, received.request


def _parse(body: bytes) -> Any:
    """Raises ValueError, and RecursionError for what is nested deeper than a thousand levels or so."""

    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    return json.loads(body, parse_constant=no_number)


def _said(content: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status)


def _problem(status: int, error: str, *, again: float | None = None, close: bool = False) -> Response:
    headers = {"Retry-After": str(math.ceil(again))} if again else {}
    return JSONResponse({"error": error}, status, headers | ({"Connection": "close"} if close else {}))
