"""Each wish is a request once, in whatever order and however often its deliveries come."""

from __future__ import annotations

import itertools
import random
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from service.store import Outcome, Received, State, Store, StoreUnavailable
from service.store.tokens import check_token, make_token, revoke_token, tokens
from service.webhooks import Delivery, ObjectKind, Wish, WishKind
from tests.service.deliveries import ADA, again, asked, at, comment

pytestmark = pytest.mark.heavy


def take(store: Store, *deliveries: Delivery) -> list[Outcome]:
    """One after the other, each in a transaction of its own."""
    return [store.receive([delivery])[0].outcome for delivery in deliveries]


def states(store: Store, number: int = 17) -> list[tuple[WishKind, State]]:
    return [(one.wish.kind, one.state) for one in store.of_thread(7001, number)]


def test_a_delivery_is_a_request_once(store: Store) -> None:
    label = asked(WishKind.FIX, 5, text="please")
    assert take(store, label, label, again(label)) == [Outcome.NEW, Outcome.DUPLICATE, Outcome.DUPLICATE]
    (request,) = store.waiting()
    assert request.wish == label.wish
    assert request.object == label.object
    assert request.asked_by == ADA
    assert (request.slug, request.installation, request.at) == (label.slug, 66001, at(5))
    assert store.receive([label])[0].request == request.id
    assert store.request(request.id) == request


def test_the_same_within_one_transaction_is_once_too(store: Store) -> None:
    label = asked(WishKind.FIX, 5)
    outcomes = [received.outcome for received in store.receive([label, label, again(label)])]
    assert outcomes == [Outcome.NEW, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert len(store.waiting()) == 1


def test_other_versions_objects_repositories_and_wishes_are_other_requests(store: Store) -> None:
    label = asked(WishKind.FIX, 5)
    others = [
        asked(WishKind.FIX, 6),
        asked(WishKind.FIX, 5, key=(ObjectKind.ISSUE, 880018), number=18),
        asked(WishKind.FIX, 5, repository=7002),
        asked(WishKind.EXPLAIN, 5),
    ]
    assert take(store, label, *others) == [Outcome.NEW] * 5


def test_what_asks_for_nothing_leaves_nothing(store: Store) -> None:
    silent = asked(None, 5)
    assert take(store, silent, silent) == [Outcome.NOTHING, Outcome.NOTHING]
    assert store.waiting() == []


def test_an_older_label_after_a_newer_one_is_void(store: Store) -> None:
    assert take(store, asked(WishKind.FIX, 9), asked(WishKind.FIX, 5)) == [Outcome.NEW, Outcome.STALE]
    assert len(store.waiting()) == 1


def test_what_was_closed_isnt_begun_by_a_label_that_comes_late(store: Store) -> None:
    assert take(store, asked(WishKind.CLOSED, 9), asked(WishKind.FIX, 5)) == [Outcome.NEW, Outcome.STALE]
    assert [request.wish.kind for request in store.waiting()] == [WishKind.CLOSED]


def test_what_is_asked_after_a_close_is_begun(store: Store) -> None:
    assert take(store, asked(WishKind.CLOSED, 5), asked(WishKind.FIX, 9)) == [Outcome.NEW, Outcome.NEW]


def test_a_late_close_spares_what_was_asked_after_it(store: Store) -> None:
    """Closed, reopened, labelled; the first of these comes last."""
    take(store, asked(WishKind.FIX, 9), asked(WishKind.CLOSED, 5))
    assert states(store) == [(WishKind.FIX, State.WAITING), (WishKind.CLOSED, State.WAITING)]


def test_closing_cancels_what_waits_and_names_what_runs(store: Store) -> None:
    take(store, asked(WishKind.FIX, 5), asked(WishKind.RETRY, 6), asked(WishKind.FIX, 6, number=18))
    first, second, other = store.waiting()
    assert store.change(first.id, State.RUNNING, since={State.WAITING}, run="run-1")
    take(store, asked(WishKind.CLOSED, 7))
    end = store.waiting()[-1]
    assert [request.id for request in store.to_end(end)] == [first.id]
    cancelled = store.request(second.id)
    assert cancelled is not None
    assert cancelled.state is State.CANCELLED
    assert cancelled.ended is not None
    assert store.request(other.id) == other


def test_stopping_ends_nothing_until_it_is_known_that_its_person_may(store: Store) -> None:
    take(store, asked(WishKind.FIX, 5), asked(WishKind.STOP, 7), asked(WishKind.RETRY, 6))
    assert states(store) == [(kind, State.WAITING) for kind in (WishKind.FIX, WishKind.STOP, WishKind.RETRY)]
    first, end, late = store.waiting()
    assert store.to_end(end) == [first, late]
    assert store.change(end.id, State.CANCELLED, why="it takes write permission")
    assert take(store, asked(WishKind.FIX, 6)) == [Outcome.NEW]
    take(store, asked(WishKind.STOP, 8))
    assert store.change(store.waiting()[-1].id, State.DONE)
    assert take(store, asked(WishKind.CONTINUE, 7)) == [Outcome.STALE]


def test_an_issue_and_its_pull_request_are_stopped_together_and_a_pull_request_closed_alone(store: Store) -> None:
    take(store, asked(WishKind.CONTINUE, 5), asked(WishKind.REVIEWED, 6, number=21), asked(WishKind.FIX, 6, number=18))
    issue, review, other = store.waiting()
    store.keep_thread(issue.repository_id, issue.wish.number, issue.slug, pull=21)
    assert store.issues_of([issue, review, other]) == {
        issue.id: (issue.repository_id, issue.wish.number),
        review.id: (issue.repository_id, issue.wish.number),
        other.id: (other.repository_id, 18),
    }
    for number, kind, ends in (
        (issue.wish.number, WishKind.STOP, [issue.id, review.id]),
        (21, WishKind.STOP, [issue.id, review.id]),
        (21, WishKind.CLOSED, [review.id]),
        (issue.wish.number, WishKind.CLOSED, [issue.id, review.id]),
    ):
        end = replace(issue, wish=Wish(kind, number), at=at(9))
        assert [one.id for one in store.to_end(end)] == ends, (number, kind)


def test_one_repositorys_many_requests_hold_up_no_others(store: Store) -> None:
    many = [asked(WishKind.FIX, 5, number=each, key=(ObjectKind.ISSUE, each)) for each in range(100, 140)]
    other = replace(asked(WishKind.FIX, 6, number=7), repository_id=99)
    take(store, *many, other)
    found = store.waiting_for({WishKind.FIX}, each=3)
    assert [one.wish.number for one in found] == [100, 101, 102, 7]
    again = [comment(WishKind.CONTINUE, 5, number) for number in range(560000, 560030)]  # all below issue 17
    take(store, *again, asked(WishKind.CONTINUE, 6, number=18, key=(ObjectKind.ISSUE, 18)))
    found = store.waiting_for({WishKind.CONTINUE}, each_number=1)
    assert [one.wish.number for one in found] == [17, 18]
    assert store.waiting_for({WishKind.STOP}) == []


def test_an_edited_text_takes_back_what_it_asked_before(store: Store) -> None:
    take(store, comment(WishKind.FIX, 5), comment(None, 6))
    assert states(store) == [(WishKind.FIX, State.CANCELLED)]
    assert take(store, comment(WishKind.RETRY, 5)) == [Outcome.STALE]


def test_a_deleted_comment_asks_for_nothing_whenever_that_comes(store: Store) -> None:
    for early in (True, False):
        number = 550002 + early
        both = [comment(WishKind.FIX, 5, number), comment(None, 5, number, deleted=True)]
        take(store, *(reversed(both) if early else both))
    assert store.waiting() == []


def test_versions_of_a_comment_end_the_same_in_every_order(store: Store) -> None:
    """What waits in the end is the newest version's wish alone."""
    for number, order in enumerate(itertools.permutations(range(3)), 560001):
        versions = [comment(kind, 5 + place, number) for place, kind in enumerate([WishKind.FIX, None, WishKind.RETRY])]
        take(store, *(versions[place] for place in order))
        left = [(one.wish.kind, one.at) for one in store.waiting() if one.object.id == number]
        assert left == [(WishKind.RETRY, at(7))], order


def test_what_has_ended_stays_ended(store: Store) -> None:
    take(store, asked(WishKind.FIX, 5))
    (request,) = store.waiting()
    assert store.change(request.id, State.CANCELLED, why="stopped")
    assert not store.change(request.id, State.DONE, pull=21)
    assert not store.change(request.id, State.WAITING, since={State.CANCELLED})
    found = store.request(request.id)
    assert found is not None
    assert (found.state, found.why, found.pull) == (State.CANCELLED, "stopped", None)


def test_only_who_finds_the_expected_state_changes_it(store: Store) -> None:
    take(store, asked(WishKind.FIX, 5))
    (request,) = store.waiting()
    assert store.change(request.id, State.QUEUED, since={State.WAITING})
    assert not store.change(request.id, State.QUEUED, since={State.WAITING})
    assert store.change(request.id, State.DONE, run="run-1", pull=21)
    found = store.request(request.id)
    assert found is not None
    assert (found.run, found.pull, found.ended is None) == ("run-1", 21, False)


def patiently(store: Store, deliveries: list[Delivery]) -> list[Received]:
    """As whoever sends does: a slow disk may hold a writer up for longer than the others wait."""
    while True:
        with suppress(StoreUnavailable):
            return store.receive(deliveries)


def test_many_writers_store_each_request_once(store: Store) -> None:
    """Four threads with connections of their own bring the same deliveries, shuffled; each wish is new once."""
    wishes = [asked(WishKind.FIX, 5, number=n, key=(ObjectKind.ISSUE, n)) for n in range(1, 41)]
    found: list[Outcome] = []

    def bring(seed: int) -> None:
        mine = [again(wish) for wish in wishes]
        random.Random(seed).shuffle(mine)
        for start in range(0, len(mine), 7):
            found.extend(received.outcome for received in patiently(store, mine[start : start + 7]))

    threads = [threading.Thread(target=bring, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(Outcome.NEW) == len(wishes)
    assert found.count(Outcome.DUPLICATE) == 3 * len(wishes)
    assert len(store.waiting(1000)) == len(wishes)


def test_threads_keep_what_is_known(store: Store) -> None:
    assert store.thread(7001, 17) is None
    store.keep_thread(7001, 17, "old/ledger", run="run-1", status_comment=5)
    store.keep_thread(7001, 17, "lighthouse-labs/ledger", branch="patchwright/17", pull=21)
    thread = store.thread(7001, 17)
    assert thread is not None
    assert (thread.slug, thread.run, thread.branch, thread.pull, thread.status_comment) == (
        "lighthouse-labs/ledger",
        "run-1",
        "patchwright/17",
        21,
        5,
    )
    with pytest.raises(ValueError, match="color"):
        store.keep_thread(7001, 17, "lighthouse-labs/ledger", color="red")


def test_a_thread_is_found_by_its_pull_request_first(store: Store) -> None:
    store.keep_thread(7001, 17, "lighthouse-labs/ledger", pull=21)
    assert store.first_help(7001, 21, "lighthouse-labs/ledger")  # a row of the pull request's own
    found = [store.thread(7001, number) for number in (17, 21)]
    assert [thread.number if thread else None for thread in found] == [17, 17]


def test_help_is_given_once_a_thread(store: Store) -> None:
    given = [store.first_help(7001, number, "a/b") for number in (17, 17, 18)]
    assert given == [True, False, True]


def test_pruned_deliveries_are_still_known_by_their_request(store: Store) -> None:
    label = asked(WishKind.FIX, 5)
    take(store, label)
    assert store.prune("9999") == 1
    assert take(store, label) == [Outcome.DUPLICATE]
    assert len(store.waiting()) == 1


def test_audit_is_kept_newest_first(store: Store) -> None:
    store.note("ada-writes", "submitted", "run-1", {"issue": 17})
    store.note("service", "pruned", "deliveries")
    assert [(note["who"], note["data"]) for note in store.notes()] == [("service", {}), ("ada-writes", {"issue": 17})]


def test_tokens_are_kept_as_hashes_and_hold_until_revoked(store: Store, database: str) -> None:
    token = make_token(store, "editor", {"runs:read"})
    found = check_token(store, token.reveal())
    assert found is not None
    assert (found.name, found.scopes) == ("editor", {"runs:read"})
    text = token.reveal()
    assert check_token(store, text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert check_token(store, "") is None
    assert check_token(store, "pw_" + "0" * 12 + "_" + "A" * 43) is None
    expired = make_token(store, "old", {"runs:read"}, expires="2020-01-01T00:00:00.000Z")
    assert check_token(store, expired.reveal()) is None
    assert text.split("_", 2)[2] not in repr(tokens(store)) + database
    assert revoke_token(store, found.id)
    assert check_token(store, text) is None


def test_a_delivery_keeps_its_place_in_a_failed_transaction(store: Store) -> None:
    """One that no database takes stores nothing of its transaction; without it the others go in."""
    good, bad = asked(WishKind.FIX, 5), replace(asked(WishKind.FIX, 6), repository_id=2**80)
    with pytest.raises(Exception, match=r"(?i)int|range"):
        store.receive([good, bad])
    assert store.waiting() == []
    assert take(store, good) == [Outcome.NEW]


def test_a_database_of_ours_is_nobody_elses_to_read(tmp_path: Path) -> None:
    file = tmp_path / "new" / "service.sqlite"
    with closing(Store.open(f"sqlite:///{file}")) as store:
        take(store, asked(WishKind.FIX, 5))
        assert {path.stat().st_mode & 0o077 for path in file.parent.iterdir()} == {0}
