"""The script as a program: a log on its standard input, a table on its output."""

import subprocess
from pathlib import Path

LOGSUM = Path(__file__).parent.parent / "bin" / "logsum"


def logsum(log, *options):
    return subprocess.run(["perl", str(LOGSUM), *options], input=log, capture_output=True, text=True)


def table(log, *options):
    """Path -> its row, as texts by column."""
    head, *rows = (line.split() for line in logsum(log, *options).stdout.splitlines())
    return {row[0]: dict(zip(head[1:], row[1:])) for row in rows}


def requests(*times, path="/", status=200):
    return "".join(f"2024-05-01T10:00:00 GET {path} {status} 100 {time}\n" for time in times)


def test_counts_errors_and_bytes():
    rows = table(requests(5, 5, path="/a") + requests(5, path="/b", status=503))
    assert (rows["/a"]["COUNT"], rows["/a"]["ERRORS"], rows["/a"]["BYTES"]) == ("2", "0", "200")
    assert (rows["/b"]["COUNT"], rows["/b"]["ERRORS"]) == ("1", "1")


def test_the_query_is_no_part_of_the_path():
    assert list(table(requests(1, path="/s?q=1") + requests(1, path="/s?q=2"))) == ["/s"]


def test_the_most_requested_come_first():
    log = requests(1, path="/c") + requests(1, 1, path="/b") + requests(1, path="/a")
    assert list(table(log)) == ["/b", "/a", "/c"]
    assert list(table(log, "-t", "2")) == ["/b", "/a"]


def test_equal_times():
    row = table(requests(7, 7, 7))["/"]
    assert (row["P50"], row["P95"], row["MAX"]) == ("7", "7", "7")


def test_lines_that_cannot_be_read_are_counted():
    done = logsum("# head\n\nnonsense\n" + requests(1))
    assert "1 lines could not be read" in done.stderr
    assert done.returncode == 0


def test_wrong_options():
    assert logsum("", "-t", "0").returncode == 2
    assert logsum("", "--colour").returncode == 2
