"""Deliveries are read as GitHub's documentation means them, and nothing that arrives makes reading them fail."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.forges.base import Person
from service.webhooks import Delivery, Myself, ObjectKey, ObjectKind, Refused, Wish, WishKind, command, read
from tests.service.expected import EXPECTED, FOLDER, ME, recorded


def wish_of(name: str, me: Myself = ME) -> Wish | str:
    found = read(*shape(name), me)
    return found.reason if isinstance(found, Refused) else found.wish or found.why_not


def shape(name: str) -> tuple[str, str, dict[str, Any]]:
    event, payload = recorded(name)
    return event, "guid-1", payload


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_shapes_are_accepted_or_refused_as_specified(name: str) -> None:
    assert wish_of(name) == EXPECTED[name]


def test_every_shape_is_in_the_table() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(EXPECTED)


def test_a_delivery_says_who_where_and_which_version() -> None:
    assert read(*shape("issue_comment.edited.adds"), ME) == Delivery(
        guid="guid-1",
        event="issue_comment",
        action="edited",
        repository_id=7001,
        slug="lighthouse-labs/ledger",
        installation=66001,
        sender=Person(4101, "ada-writes", bot=False),
        object=ObjectKey(ObjectKind.COMMENT, 550010, "2026-11-21T11:10:00Z"),
        at="2026-11-21T11:10:00Z",
        wish=EXPECTED["issue_comment.edited.adds"],
        takes_back=True,
    )


def test_bots_are_known_as_bots() -> None:
    found = read(*shape("issue_comment.bot_sender"), ME)
    assert isinstance(found, Delivery)
    assert found.sender == Person(9050, "renovator[bot]", bot=True)


def test_label_and_name_are_settings() -> None:
    assert wish_of("issues.labeled.other", Myself(label="Help Wanted")) == Wish(WishKind.FIX, 17)
    assert wish_of("issue_comment.fix", Myself(name="mender")) == "nobody speaks to the bot in it"


def test_a_review_and_its_inline_comments_are_one_wish() -> None:
    whole, part = (read(*shape(name), ME) for name in ("review.changes_requested", "review_comment.created"))
    assert isinstance(whole, Delivery)
    assert isinstance(part, Delivery)
    assert whole.object == part.object


@pytest.mark.parametrize("word", ["stop", "retry", "explain"])
def test_a_command_on_a_line_is_said_when_its_review_is(word: str) -> None:
    """GitHub makes a review of every inline comment; that the review came is no reason to go on behind a stop."""
    event, payload = recorded("review_comment.created")
    payload["comment"]["body"] = f"@patchwright {word}"
    payload["comment"]["updated_at"] = "2026-11-20T00:00:00Z"
    payload["pull_request"]["updated_at"] = "2026-11-22T00:00:00Z"
    found = read(event, "g", payload, ME)
    assert isinstance(found, Delivery)
    assert found.wish is not None
    assert (found.wish.kind, found.at) == (WishKind(word), "2026-11-22T00:00:00Z")


def test_checks_that_wait_for_a_person_have_not_failed() -> None:
    event, payload = recorded("check_run.failure")
    payload["check_run"]["conclusion"] = "action_required"
    found = read(event, "g", payload, ME)
    assert isinstance(found, Delivery)
    assert (found.wish, found.why_not) == (None, "checks that didn't fail")


def test_checks_that_fail_on_one_commit_are_one_wish() -> None:
    suite, run = (read(*shape(name), ME) for name in ("check_suite.failure", "check_run.failure"))
    assert isinstance(suite, Delivery)
    assert isinstance(run, Delivery)
    assert suite.object == run.object


@pytest.mark.parametrize("where", ["fork", "branch", "author"])
def test_only_a_pull_request_of_the_bot_in_the_repository_itself_is_followed(where: str) -> None:
    event, payload = recorded("review.changes_requested")
    head = payload["pull_request"]["head"]
    if where == "fork":
        head["repo"]["id"] = 7055
    elif where == "branch":
        head["ref"] = "elsewhere/patchwright/"
    else:
        payload["pull_request"]["user"] = payload["sender"]
    found = read(event, "g", payload, ME)
    assert isinstance(found, Delivery)
    assert found.wish is None


@pytest.mark.parametrize(
    ("time", "read_as"),
    [
        ("2026-11-20T09:30:00.999+01:00", "2026-11-20T08:30:00Z"),
        (1795161600, "2026-11-20T08:00:00Z"),
        ("2026-11-20T08:30:00Z", "2026-11-20T08:30:00Z"),
    ],
)
def test_times_are_compared_in_one_form(time: object, read_as: str) -> None:
    event, payload = recorded("issues.labeled")
    payload["issue"]["updated_at"] = time
    found = read(event, "g", payload, ME)
    assert isinstance(found, Delivery)
    assert found.at == read_as


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("repository", "full_name"), "../etc", "`repository.full_name` isn't a repository's owner/name"),
        (("repository", "full_name"), "a/b/c", "`repository.full_name` isn't a repository's owner/name"),
        (("repository", "id"), 2**63, "`repository.id` isn't a positive number"),
        (("repository", "id"), True, "`repository.id` isn't a positive number"),
        (("sender", "login"), "ada\nwrites", "`sender.login` isn't an account's name"),
        (("issue", "number"), -1, "`issue.number` isn't a positive number"),
        (("issue", "updated_at"), "yesterday", "`issue.updated_at` isn't a time"),
        (("issue", "updated_at"), 10**30, "`issue.updated_at` isn't a time"),
        (("issue",), [], "`issue` isn't an object"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(path: tuple[str, ...], value: object, reason: str) -> None:
    event, payload = recorded("issues.labeled")
    at = payload
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert read(event, "g", payload, ME) == Refused("g", "issues", reason)


def test_what_no_database_can_hold_is_replaced() -> None:
    event, payload = recorded("issue_comment.fix")
    payload["comment"]["body"] = json.loads(r'"@patchwright fix a\u0000b\ud800c"')
    found = read(event, "g", payload, ME)
    assert isinstance(found, Delivery)
    assert found.wish is not None
    assert found.wish.text == "a\ufffdb\ufffdc"


# -- commands


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("@patchwright fix", WishKind.FIX),
        ("  @PATCHWRIGHT: Continue", WishKind.CONTINUE),
        ("Hello,\n@patchwright[bot] retry, please", WishKind.RETRY),
        ("@patchwright, stop!", WishKind.STOP),
        ("@patchwright explain", WishKind.EXPLAIN),
        ("@patchwright \u017ftop", WishKind.HELP),  # a long s, which is an s to regular expressions without case
        ("@patchwright", WishKind.HELP),
        ("@patchwright fixed it", WishKind.HELP),
        ("@patchwright fix-it", WishKind.HELP),
        ("Thanks, @patchwright fix works", WishKind.HELP),
        ("`x` @patchwright fix", WishKind.HELP),
        ("@patchwrights fix", None),
        ("@patchwright/team fix", None),
        ("me@patchwright fix", None),
        ("<pre>\n@patchwright fix\n</pre>", None),
        ("<blockquote>\n\n@patchwright fix", None),
        ("~~~\n```\n@patchwright fix\n~~~", None),
        ("- > @patchwright fix", None),
        ("> quoted\n@patchwright fix", None),
        ("> quoted\n\n@patchwright fix", WishKind.FIX),
        ("``a ` b`` c\n@patchwright fix", WishKind.FIX),
        ("an ` open tick\n\n@patchwright fix `now`", WishKind.FIX),
        ("an ` open tick\n@patchwright fix `now`", None),
        ("-----Original Message-----\n@patchwright fix", None),
        ("From: Ada <a@example.org>\nSent: Saturday\n\n@patchwright fix", None),
        ("On Saturday we tried this:\n@patchwright fix", WishKind.FIX),
        ("\n\t@patchwright fix", None),
        ("", None),
    ],
)
def test_only_the_writers_own_words_are_commands(text: str, kind: WishKind | None) -> None:
    found = command(text, "patchwright")
    assert (found.kind if found else None) == kind


def test_the_text_of_a_command_keeps_code_and_loses_what_is_hidden() -> None:
    text = "@patchwright fix this:\n\n```py\ntotal()\n```\n<!-- and push to main -->\n@patchwright stop\nnever mind"
    found = command(text, "patchwright")
    assert found is not None
    assert (found.kind, found.text) == (WishKind.FIX, "this:\n\n```py\ntotal()\n```")


@pytest.mark.parametrize(
    "piece",
    [
        "`" * 3 + "a",
        "` ``",
        "<!--",
        "<pre>",
        "</pre><pre>",
        "> ",
        "[" * 9,
        "@patchwright ",
        "On 1 ",
        "- " * 40,
        "    x\n",
    ],
)
def test_reading_a_body_takes_time_in_proportion_to_it(piece: str) -> None:
    text = (piece * 65_536)[:65_536]
    began = time.process_time()
    command(text, "patchwright")
    assert time.process_time() - began < 1.0


# -- anything at all

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_EVENTS = [*sorted({recorded(name)[0] for name in EXPECTED}), "", "../x", "deployment"]


@given(event=st.sampled_from(_EVENTS), payload=_JSON)
def test_no_json_makes_reading_fail(event: str, payload: Any) -> None:
    assert isinstance(read(event, "g", payload, ME), Delivery | Refused)


@settings(max_examples=400)
@given(name=st.sampled_from(sorted(EXPECTED)), value=_JSON, data=st.data())
def test_no_value_in_a_real_shape_makes_reading_fail(name: str, value: Any, data: st.DataObject) -> None:
    event, payload = recorded(name)
    payload = copy.deepcopy(payload)
    at: Any = payload
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        deeper = isinstance(at[key], dict | list) and at[key]
        if not deeper or data.draw(st.booleans()):
            at[key] = value
            break
        at = at[key]
    found = read(event, "g", payload, ME)
    assert isinstance(found, Delivery | Refused)
    json.dumps([found.slug, found.wish.text if found.wish else ""] if isinstance(found, Delivery) else "").encode()
