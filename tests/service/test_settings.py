"""Settings come from the environment, secrets from files too; rates fill up again with time."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import SettingsProblem, from_environment
from service.webhooks.rates import Rate, RateLimit, RateLimits

SECRET = "PATCHWRIGHT_WEBHOOK_SECRET"
LONG = "sixteen characters"


def test_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("an older, longer secret\n")
    found = from_environment(
        {
            SECRET: LONG,
            f"{SECRET}_OLD_FILE": str(tmp_path / "old"),
            "PATCHWRIGHT_DATABASE": "postgresql://someone:password-x@host/x",
            "PATCHWRIGHT_BOT_NAME": "mender",
            "PATCHWRIGHT_BOT_ID": "9001",
            "PATCHWRIGHT_PORT": "80",
            "PATCHWRIGHT_RATE_SENDER": "5/7",
            "PATCHWRIGHT_RATE_REPOSITORY": "9",
        }
    )
    assert [secret.reveal() for secret in found.webhook_secrets] == [LONG, "an older, longer secret"]
    assert (found.me.name, found.me.id, found.me.label, found.port) == ("mender", 9001, "mender", 80)
    assert (found.per_sender, found.per_repository) == (Rate(5, 7), Rate(9, 9))
    assert not {"password-x", LONG} & set(repr(found).split("'"))
    assert "password-x" not in repr(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, f"{SECRET} is missing"),
        ({SECRET: "short"}, "fewer than 16 characters"),
        ({SECRET: LONG, f"{SECRET}_OLD": "short"}, "fewer than 16 characters"),
        ({f"{SECRET}_FILE": "/nowhere"}, f"{SECRET}_FILE names /nowhere, which can't be read"),
        ({SECRET: LONG, "PATCHWRIGHT_PORT": "http"}, "PATCHWRIGHT_PORT is 'http'"),
        ({SECRET: LONG, "PATCHWRIGHT_RATE_SENDER": "0"}, "PATCHWRIGHT_RATE_SENDER is '0'"),
        ({SECRET: LONG, "PATCHWRIGHT_RATE_SENDER": "1/2/3"}, "PATCHWRIGHT_RATE_SENDER is '1/2/3'"),
    ],
)
def test_what_cant_be_used_is_named(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsProblem, match=message):
        from_environment(given)


def test_a_bucket_fills_up_again() -> None:
    moment = 0.0
    limits = RateLimits([RateLimit(Rate(60, 2), lambda: moment), RateLimit(Rate(6, 3), lambda: moment)])
    assert [limits.take(["repository", "person"]) for _ in range(2)] == [0.0, 0.0]
    assert limits.take(["repository", "person"]) == 1.0  # one a second
    assert limits.take(["another", "person"]) == 0.0  # the refused one took nothing
    assert limits.take(["a third", "person"]) == 10.0
    limits.give_back(["another", "person"])
    assert limits.take(["a third", "person"]) == 0.0
    moment = 10.0
    assert limits.take(["repository", "person"]) == 0.0


def test_buckets_are_bounded() -> None:
    limit = RateLimit(Rate(1, 1), lambda: 0.0)
    for who in range(10_001):
        limit.take(who)
    assert limit.wait(0) == 0.0  # forgotten
    assert limit.wait(10_000) > 0.0
