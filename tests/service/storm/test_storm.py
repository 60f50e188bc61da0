"""2,000 deliveries in 10 s, half of them repeated, some forged, in any order, and the service is killed five times:
each distinct request is one job, and each issue has one pull request."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from agent.forges.base import has_marker
from agent.forges.fake.acts import FakeForge
from agent.forges.fake.server import fake_forge
from benchmarks.webhooks import blow
from tests.runs.harness import BUGGY, served
from tests.service.bot.fleet import SECRET, Fleet, cleared, free_port, until
from tests.service.storm.weather import DELIVERIES, FORGED, REPEATED, SLUG, TURNS, Seen, Struck, Wanted, happen, storm

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
SECONDS = 10.0
PATIENCE = 1200.0
RUNS_AT_ONCE = 4


async def test_each_request_is_one_job_and_each_issue_one_pull_request(tmp_path: Path) -> None:
    seed = int(os.environ.get("PATCHWRIGHT_STORM_SEED") or secrets.randbits(32))
    print(f"PATCHWRIGHT_STORM_SEED={seed} makes this storm again")
    chance = random.Random(seed)
    port = free_port()
    with served(TURNS) as model:
        async with fake_forge(tmp_path / "forge") as forge:
            await forge.add_repository(SLUG, BUGGY)
            forge.grant(SLUG, "mia", "maintain")
            app = await forge.add_app("patchwright", hook=f"http://127.0.0.1:{port}/webhooks/github", secret=SECRET)
            forge.install(app.id, SLUG)
            wanted = await happen(forge, int(DELIVERIES * (1 - FORGED - REPEATED)), chance)
            sent = storm(forge.deliveries, SECRET.encode(), chance)
            assert len(sent) == DELIVERIES
            database = f"sqlite:///{tmp_path}/home/service.sqlite"
            fleet = Fleet(tmp_path, forge, app, database, model.url, port, _settings())
            with cleared(fleet):
                service = Struck(fleet, RUNS_AT_ONCE)
                await service.start()
                told = await blow(service, sent, SECONDS, sorted(chance.uniform(0.1, 0.95) for _ in range(3)))
                await strike_in_mid_work(service, forge, chance)
                await until(lambda: not Seen.of(tmp_path / "home").open, "the end of all requests", PATIENCE)
                await until(lambda: told_all(forge, wanted), "the last words", PATIENCE)
                assert service.stop() == 0
            assert service.kills == 5
            assert set(told.statuses) <= {200, 202, 401}
            assert told.statuses[401] == DELIVERIES * FORGED
            check_store_and_jobs(Seen.of(tmp_path / "home"), wanted)
            check_forge(forge, wanted)


def _settings() -> dict[str, str]:
    many = dict.fromkeys(("PATCHWRIGHT_RATE_REPOSITORY", "PATCHWRIGHT_RATE_SENDER"), "1000000")
    return {**many, "PATCHWRIGHT_RUNS_PER_REPOSITORY": str(RUNS_AT_ONCE), "PATCHWRIGHT_SWEEP_SECONDS": "0"}


async def strike_in_mid_work(service: Struck, forge: FakeForge, chance: random.Random) -> None:
    """Twice more, when some of the work is done and the rest isn't."""
    for share in (0.2, 0.6):
        some = int(len(forge.repo(SLUG).threads) * 0.5 * (share + chance.uniform(-0.1, 0.1)))
        await until(lambda some=some: len(pulls(forge)) >= some, f"{some} pull requests", PATIENCE)  # type: ignore[misc]
        service.kill()
        await service.start()


def pulls(forge: FakeForge) -> list[str]:
    """The branch of each pull request."""
    return [one.pull.head for one in forge.repo(SLUG).threads if one.pull]


def said(forge: FakeForge, number: int, marker: str) -> list[str]:
    """What the bot has written below an issue, by its hidden marker."""
    me = forge.add_person("patchwright[bot]").id
    notes = [note for note in forge.repo(SLUG).notes if note.number == number and note.author == me]
    return [note.body for note in notes if has_marker(note.body, marker)]


def told_all(forge: FakeForge, wanted: Wanted) -> bool:
    return all("See #" in "".join(said(forge, number, "status")) for number in wanted.runs)


def check_store_and_jobs(seen: Seen, wanted: Wanted) -> None:
    """Every distinct wish is one request, and every request that asks for work is one job, which ended well."""
    asks = Counter((number, kind) for _, number, kind, _, _ in seen.requests if kind != "installed")  # these are noted
    twice = set(wanted.explained)
    expected = Counter({(number, "fix"): 1 + (number in twice) for number in wanted.runs | wanted.closed})
    expected.update({(number, "closed"): 1 for number in wanted.closed})
    assert asks == expected
    ended = {row[0]: row for row in seen.requests}
    work = {key for key, number, kind, _, _ in seen.requests if kind == "fix" and number in wanted.runs}
    assert {row for key, row in ended.items() if key in work and row[3:] != ("done", "")} == set()
    of_closed = {key for key, number, kind, _, _ in seen.requests if kind == "fix" and number in wanted.closed}
    assert {key for key, state in seen.jobs.items() if state == "SUCCESS"} - of_closed == work
    assert set(seen.jobs) <= work | of_closed


def check_forge(forge: FakeForge, wanted: Wanted) -> None:
    """One branch with one commit, one pull request and one status comment for each issue."""
    made = Counter(pulls(forge))
    of_closed = {f"patchwright/issue-{number}" for number in wanted.closed}
    assert made.keys() - of_closed == {f"patchwright/issue-{number}" for number in wanted.runs}
    assert set(made.values()) == {1}
    refs = _git(forge, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split()
    assert set(refs) - of_closed == {"main", *made} - of_closed
    for branch in made:
        assert _git(forge, "rev-list", "--count", f"main..{branch}") == "1"
        assert _git(forge, "diff", "--stat", "main", branch).startswith("calc/ops.py | 2 +-")
    for number in wanted.runs:
        assert len(said(forge, number, "status")) == 1
        answers = said(forge, number, "explain:0") + said(forge, number, f"explain:{wanted.explained.get(number, 1)}")
        assert len(answers) == (number in wanted.explained)
    for number in wanted.closed:
        assert len(said(forge, number, "status")) <= 1


def _git(forge: FakeForge, *arguments: str) -> str:
    bare = forge.bare(forge.repo(SLUG))
    return subprocess.run(
        ["git", "-C", str(bare), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
