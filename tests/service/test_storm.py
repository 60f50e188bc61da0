"""The storm of the benchmark, smaller: its server is killed three times, and nothing is lost or taken twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.webhooks import Server, blow, evenly, judged, storm


def test_the_storm_is_what_it_says() -> None:
    sent = storm(2000)
    wishes = [one.wish for one in sent if one.wish]
    assert len(sent) == 2000
    assert len(wishes) == 1900  # 5 % are forged
    assert len(set(wishes)) == 900  # the others repeat one of these
    guids = {one.guid for one in sent if one.wish}
    assert 900 < len(guids) < 1900  # some with its GUID, some with one of their own
    places = {one.wish: place for place, one in reversed(list(enumerate(sent))) if one.wish}
    early = [wish for wish in places if wish[2] == "closed" and places[wish] < places.get((*wish[:2], "labeled"), 0)]
    assert len(early) > 50


@pytest.mark.heavy
async def test_a_storm_with_three_kills_leaves_each_wish_once(database: str) -> None:
    sent = storm(600, seed=2)
    server = Server(database)
    try:
        await server.start()
        told = await blow(server, sent, seconds=6, kills=evenly(3))
    finally:
        server.kill()
    assert judged(database, sent) == []
    assert told.kills == 3
    assert told.broken > 0  # some were under way
    assert told.statuses[401] == 30
    assert set(told.statuses) == {200, 202, 401}


def test_what_is_missing_or_twice_is_seen(tmp_path: Path) -> None:
    from service.store import Store
    from service.webhooks import WishKind
    from tests.service.deliveries import asked

    url = f"sqlite:///{tmp_path}/x.sqlite"
    store = Store.open(url)
    store.receive([asked(WishKind.FIX, 5, repository=1, number=999)])
    store.close()
    lost, strange = judged(url, storm(100))
    assert lost.startswith("45 wishes were lost")
    assert strange == "1 wishes are there that nobody had, such as (1, 999, 'labeled')"
