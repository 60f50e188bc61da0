import pytest

from tabula import TableError, to_csv, to_markdown, to_tsv

NAMES = ["name", "size"]
ROWS = [["disk", 1.5], ["tape", None]]


def test_csv():
    assert to_csv(NAMES, ROWS) == "name,size\r\ndisk,1.5\r\ntape,\r\n"


def test_tsv():
    assert to_tsv(NAMES, ROWS) == "name\tsize\ndisk\t1.5\ntape\t\\N\n"


def test_markdown():
    assert to_markdown(NAMES, ROWS) == "| name | size |\n| ---- | ---- |\n| disk | 1.50 |\n| tape | -    |"


@pytest.mark.parametrize("to", [to_csv, to_tsv, to_markdown])
def test_what_is_no_table(to):
    with pytest.raises(TableError, match="at least one column"):
        to([], [])
    with pytest.raises(TableError, match="row 2 has 1 values for 2 columns"):
        to(NAMES, [["a", 1], ["b"]])
