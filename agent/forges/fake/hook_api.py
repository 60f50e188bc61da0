"""The endpoints that show an App's webhook deliveries and send one again, as GitHub has them.

Each attempt is listed as a delivery of its own, with an id of its own and the GUID that all attempts share. Pages go by
cursor. Left out: payloads of single deliveries, and webhooks of repositories and organizations.
"""

from __future__ import annotations

from typing import Any

from agent.forges.fake import access
from agent.forges.fake.access import Refusal, not_found
from agent.forges.fake.hooks import Attempt, Delivery
from agent.forges.fake.state import App
from agent.forges.fake.web import Call, Result, endpoint

_PATH = "/app/hook/deliveries"


@endpoint("GET", _PATH)
async def deliveries(call: Call) -> Any:
    mine, query = app_of(call), call.request.query_params
    size, cursor = min(max(int(query.get("per_page") or 30), 1), 100), query.get("cursor", "")
    if cursor and not cursor.removeprefix("v1_").isdigit():
        raise Refusal(422, "Invalid cursor")
    first = int(cursor.removeprefix("v1_")) if cursor else None
    found = [pair for pair in _of(call, mine) if first is None or pair[0].id <= first]
    page, rest = found[:size], found[size:]
    onward = f'<{call.forge.api}{_PATH}?per_page={size}&cursor=v1_{rest[0][0].id}>; rel="next"' if rest else ""
    records = [_record(call, attempt, one) for attempt, one in page]
    return Result(records, headers={"link": onward} if onward else {})


@endpoint("POST", f"{_PATH}/{{delivery}}/attempts")
async def redeliver(call: Call) -> Any:
    wanted = call.number("delivery")
    for attempt, one in _of(call, app_of(call)):
        if attempt.id == wanted:
            call.forge.hooks.redeliver(one)
            return Result({}, 202)
    raise not_found()


def app_of(call: Call) -> App:
    """The App that asks. Raises Refusal for everybody else."""
    if call.who.app is None:
        raise Refusal(401, "A JSON web token could not be decoded")
    return call.who.app


def _of(call: Call, app: App) -> list[tuple[Attempt, Delivery]]:
    name = "X-GitHub-Hook-Installation-Target-"
    target = ("integration", str(app.id))
    return [
        pair
        for pair in call.forge.hooks.tried()
        if (pair[1].headers[f"{name}Type"], pair[1].headers[f"{name}ID"]) == target
    ]


def _record(call: Call, attempt: Attempt, one: Delivery) -> dict[str, Any]:
    answered = attempt.status is not None and attempt.status < 400
    failed = "failed to connect" if attempt.status is None else f"Invalid HTTP Response: {attempt.status}"
    return {
        "id": attempt.id,
        "guid": one.guid,
        "delivered_at": access.stamp(attempt.at + call.forge.world.offset),
        "redelivery": attempt.redelivery,
        "duration": attempt.duration,
        "status": "OK" if answered else failed,
        "status_code": attempt.status or 0,
        "event": one.event,
        "action": one.action or None,
        "installation_id": one.installation,
        "repository_id": one.repository,
        "throttled_at": None,
    }
