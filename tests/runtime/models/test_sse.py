from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.models.http_wire import TransportError
from runtime.models.sse import MOST_EVENT, SSEReader

STREAM = b'data: {"a": 1}\n\n: comment\n\ndata: two\r\n\r\ndata: x\ndata:y\n\nevent: e\n\ndata: [DONE]\n\n'
EVENTS = [b'{"a": 1}', b"two", b"x\ny", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    reader = SSEReader()
    bounds = [0, *sorted(cuts), len(STREAM)]
    found = [event for start, stop in pairwise(bounds) for event in reader.feed(STREAM[start:stop])]
    assert found == EVENTS
    assert not reader.inside_event


def test_an_event_that_has_not_ended_is_not_given() -> None:
    reader = SSEReader()
    assert reader.feed(b"data: one\n\ndata: tw") == [b"one"]
    assert reader.inside_event
    assert reader.feed(b"o\n\n") == [b"two"]


@pytest.mark.parametrize("piece", [b"x" * 4096, b"data: x\n" * 512], ids=["one line", "many lines"])
def test_a_long_event_costs_in_proportion_and_has_an_end(piece: bytes) -> None:
    reader = SSEReader()
    begun = time.process_time()
    for _ in range(MOST_EVENT // len(piece) - 1):
        assert reader.feed(piece) == []
    assert time.process_time() - begun < 1  # it was several seconds when every piece copied all before it
    with pytest.raises(TransportError, match="an event has more than 16,777,216 bytes"):
        for _ in range(3):
            reader.feed(piece)


def test_events_of_several_megabytes_are_read() -> None:
    reader = SSEReader()
    assert reader.feed(b"data: " + b"x" * 2**23) == []
    assert reader.feed(b"\n") == []
    assert reader.feed(b"\ndata: y\n\n") == [b"x" * 2**23, b"y"]
