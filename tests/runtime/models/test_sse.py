from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.models.sse import SSEReader

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
