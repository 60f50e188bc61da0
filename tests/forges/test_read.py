"""Whatever a server answers: a value, or a problem that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.forges.base import ForgeProblem, Permission, cut
from agent.forges.github import read

READERS: list[Callable[[Any], Any]] = [
    read.person, read.repository, read.permission, read.ticket, read.comment, read.review_comment, read.pull,
    read.check, read.annotation, read.content, read.items, read.identifier, read.first_of_thread,
    read.author_of_permission,
]  # fmt: skip
FIELDS = (
    "id", "login", "type", "full_name", "default_branch", "private", "clone_url", "role_name", "permission", "number",
    "title", "body", "user", "state", "labels", "name", "pull_request", "updated_at", "created_at", "html_url", "path",
    "line", "diff_hunk", "in_reply_to_id", "head", "base", "ref", "sha", "repo", "output", "conclusion", "summary",
    "text", "encoding", "content", "start_line", "message",
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("base64")
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner), max_leaves=40
)


@given(JSON)
@example({"id": float("inf")})  # `1e999` in JSON
def test_any_answer_is_read_or_a_problem(record: Any) -> None:
    for reader in READERS:
        try:
            read.read(reader, record)
        except ForgeProblem as problem:
            assert "check the address" in str(problem)
    try:
        read.read_all(read.comment, record)
    except ForgeProblem:
        pass


@pytest.mark.parametrize(
    ("role", "legacy", "expected"),
    [
        ("maintain", "write", Permission.MAINTAIN),
        ("triage", "read", Permission.TRIAGE),
        ("security-team", "write", Permission.WRITE),  # of an organization's own: what it is based on
        ("security-team", "unheard-of", Permission.NONE),
        ("none", "none", Permission.NONE),
    ],
)
def test_roles(role: str, legacy: str, expected: Permission) -> None:
    assert read.permission({"role_name": role, "permission": legacy}) is expected


def test_accounts_that_are_gone_and_forks_that_are_gone() -> None:
    assert read.person(None) == read.GHOST
    gone = {"ref": "x", "sha": "1", "repo": None}
    record = {"number": 1, "title": "t", "head": gone, "base": {"ref": "main"}, "state": "open", "user": None,
              "html_url": "u", "body": None}  # fmt: skip
    assert read.pull(record).head_repository is None


@given(st.text(max_size=400), st.integers(min_value=120, max_value=300))
def test_what_is_cut_fits(body: str, limit: int) -> None:
    kept = cut(body, limit)
    assert len(kept) <= limit
    assert kept == body or "more characters" in kept
