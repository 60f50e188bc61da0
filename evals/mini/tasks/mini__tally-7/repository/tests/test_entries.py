from datetime import date, timedelta

import pytest

from tally import BadLine, parse, parse_line


def test_a_line():
    entry = parse_line("2024-03-04 09:15-11:40 review #billing")
    assert entry.day == date(2024, 3, 4)
    assert entry.duration == timedelta(hours=2, minutes=25)
    assert (entry.text, entry.tags) == ("review", ("billing",))


def test_a_marker_takes_no_time():
    assert parse_line("2024-03-04 09:00-09:00 arrived").duration == timedelta()


def test_comments_and_empty_lines():
    assert list(parse(["# March", "", "   "])) == []


@pytest.mark.parametrize(
    "line",
    ["yesterday 9-10", "2024-03-04 09:15", "2024-02-30 09:00-10:00", "2024-03-04 24:30-25:00"],
    ids=["words", "no-end", "no-such-day", "no-such-time"],
)
def test_bad_lines_are_named(line):
    with pytest.raises(BadLine, match="line 2"):
        list(parse(["2024-03-04 09:00-10:00", line]))
