"""What goes in and out of the API, as its OpenAPI description shows it.

Left out: where it comes from (`service.api.finding`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.bot.story import Story
from service.store import Request, State
from service.webhooks.values import as_text

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$")]
RequestId = Annotated[str, StringConstraints(pattern=r"^r[0-9a-f]{24}$")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Check(_Shape):
    """One command, run without and with the patch. Exit codes are null where it didn't end by itself."""

    command: str
    source: str
    verdict: Literal["fixed", "kept", "broken", "failing", "unclear"]
    before: int | None
    after: int | None


class Outcome(_Shape):
    """What a run has come to so far. Tokens; cost in US dollars, null where no price is known."""

    run: str
    outcome: str | None = Field(description="Null while it is going on; see docs/exit-codes.md.")
    message: str
    summary: str
    verified: bool
    files: list[tuple[str, str]] = Field(description="(status letter, path)")
    checks: list[Check]
    turns: int
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    cost: float | None
    seconds: float
    model: str


class Run(_Shape):
    """A request and the run that it led to."""

    id: str
    repository: str
    number: int
    kind: str
    state: State
    why: str
    asked_by: str | None
    run: str | None
    pull: int | None
    created: str
    changed: str
    ended: str | None


class RunDetail(Run):
    result: Outcome | None = None


class Runs(_Shape):
    """A page, newest first. `next` is `before` of the page that follows, null at the end."""

    runs: list[Run]
    next: int | None


class Submission(_Shape):
    """An issue of a repository that the bot has, to be solved."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"repository": "octo/calc", "number": 7}]}
    )

    repository: Slug
    number: int = Field(ge=1, le=2**31 - 1)
    text: str = Field(default="", max_length=10_000, description="Said along with the issue.")


class Health(_Shape):
    """What waits and what goes on, and when the oldest waiting request came."""

    waiting: int
    running: int
    oldest: str | None


def run_of(request: Request) -> Run:
    return Run.model_validate(_fields(request))


def detail_of(request: Request, story: Story | None) -> RunDetail:
    return RunDetail.model_validate({**_fields(request), "result": outcome_of(story) if story else None})


def outcome_of(story: Story) -> Outcome:
    used = story.used
    found = {
        **{
            name: getattr(story, name)
            for name in ("run", "outcome", "message", "summary", "verified", "files", "model")
        },
        "checks": [{name: getattr(check, name) for name in Check.model_fields} for check in story.checks],
        "turns": used.turns,
        "prompt_tokens": used.prompt,
        "cached_tokens": used.cached,
        "completion_tokens": used.written,
        "cost": used.cost,
        "seconds": round(used.seconds, 1),
    }
    return Outcome.model_validate(_sendable(found))


def _sendable(found: Any) -> Any:
    """Names of files and words of models can hold what UTF-8 can't."""
    if isinstance(found, str):
        return as_text(found)
    if isinstance(found, dict):
        return {key: _sendable(value) for key, value in found.items()}
    return [_sendable(one) for one in found] if isinstance(found, list | tuple) else found


def _fields(request: Request) -> dict[str, object]:
    return {
        "id": request.id,
        "repository": request.slug,
        "number": request.wish.number,
        "kind": request.wish.kind,
        "state": request.state,
        "why": request.why,
        "asked_by": request.asked_by.login if request.asked_by else None,
        "run": request.run,
        "pull": request.pull,
        "created": request.created,
        "changed": request.changed,
        "ended": request.ended,
    }
