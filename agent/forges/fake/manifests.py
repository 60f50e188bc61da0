"""Apps from manifests on the fake forge: the form that it is sent, the click that makes the App, the code for its key.

Whoever clicks is taken for the App's owner. Left out: logging in, and editing an App's settings.
"""

from __future__ import annotations

import json
import re
import secrets
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from agent.forges.fake.access import not_found
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.web import Call, Result, endpoint

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

CODE_SECONDS = 3600
_NEEDS = {  # an App may have an event with any of these permissions
    "check_run": ("checks",), "check_suite": ("checks",), "issues": ("issues",), "push": ("contents",),
    "issue_comment": ("issues", "pull_requests"), "pull_request": ("pull_requests",),
    "pull_request_review": ("pull_requests",), "pull_request_review_comment": ("pull_requests",),
}  # fmt: skip
_LEVELS: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("actions", "checks", "contents", "issues", "pull_requests"), ("read", "write")
)
_LEVELS |= {"metadata": ("read",), "workflows": ("write",)}


def wrong_with(manifest: Any) -> str:
    """What GitHub would say of a manifest; "" where it takes it."""
    if not isinstance(manifest, dict) or not manifest.get("url"):
        return "url wasn't supplied"
    hook = manifest.get("hook_attributes")
    if not isinstance(hook, dict) or not str(hook.get("url", "")).startswith(("https://", "http://")):
        return "hook url is missing"
    if not str(manifest.get("redirect_url", "")).startswith(("https://", "http://")):
        return "redirect_url must be a URL"
    given = manifest.get("default_permissions") or {}
    for name, level in given.items():
        if level not in _LEVELS.get(name, ()):
            return f"default_permissions: {name}: {level} isn't known here"
    for event in manifest.get("default_events") or ():
        if not set(_NEEDS.get(event, ())) & set(given):
            return f"default_events: {event} isn't supported by the permissions"
    return ""


async def offered(forge: FakeForge, request: Request) -> Response:
    """The page that asks for the App's name."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    text, state = form.get("manifest", [""])[0], request.query_params.get("state", "")
    try:
        manifest = json.loads(text)
    except ValueError:
        manifest = None
    if wrong := wrong_with(manifest):
        return _page(f"<h1>Invalid GitHub App configuration</h1><p>{escape(wrong)}</p>", 422)
    assert isinstance(manifest, dict)
    return _page(
        f"<h1>Create GitHub App</h1><form method=post action='/settings/apps'><input type=hidden name=manifest value='"
        f"{escape(text)}'><input type=hidden name=state value='{escape(state)}'><input name=app_name value='"
        f"{escape(str(manifest.get('name', '')))}'><button>Create GitHub App</button></form>"
    )


async def created(forge: FakeForge, request: Request) -> Response:
    """The click: the App is there, and the browser is sent back with a code."""
    from starlette.responses import RedirectResponse

    form = {name: found[0] for name, found in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    manifest = json.loads(form.get("manifest", "null"))
    if wrong := wrong_with(manifest):
        return _page(f"<h1>Invalid GitHub App configuration</h1><p>{escape(wrong)}</p>", 422)
    slug = re.sub(r"[^a-z0-9]+", "-", form.get("app_name", "").lower()).strip("-")
    if not slug or any(one.slug == slug for one in forge.world.apps):
        return _page("<h1>Name has already been taken</h1>", 422)
    secret, code = secrets.token_hex(20), secrets.token_hex(20)
    app = await forge.add_app(
        slug, hook=manifest["hook_attributes"]["url"], secret=secret, permissions=manifest["default_permissions"],
        events=manifest["default_events"],
    )  # fmt: skip
    forge.codes[code] = (app, secret, forge.now() + CODE_SECONDS)
    query = {"code": code} | ({"state": form["state"]} if form.get("state") else {})
    return RedirectResponse(f"{manifest['redirect_url']}?{urlencode(query)}", 302)


@endpoint("POST", "/app-manifests/{code}/conversions")
async def converted(call: Call) -> Any:
    app, secret, until = call.forge.codes.pop(call.path["code"], (None, "", 0.0))
    if app is None or until <= call.forge.now():
        raise not_found()
    record = call.forge.records.app(call.forge.app(app.id))
    more = {"client_secret": secrets.token_hex(20), "webhook_secret": secret, "pem": app.key}
    return Result({**record, **more}, 201)


def _page(body: str, status: int = 200) -> Response:
    from starlette.responses import HTMLResponse

    return HTMLResponse(f"<!doctype html><meta charset=utf-8><title>Fake forge</title>{body}", status)
