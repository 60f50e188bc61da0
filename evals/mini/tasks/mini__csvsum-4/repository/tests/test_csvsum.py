"""The script as a program."""

import subprocess
from pathlib import Path

CSVSUM = Path(__file__).parent.parent / "bin" / "csvsum"

SALES = """\
date,shop,amount
2024-05-01,North,12.50
2024-05-01,South,3.25
2024-05-02,North,1.00
"""


def csvsum(text, *arguments):
    return subprocess.run(["sh", str(CSVSUM), *arguments], input=text.encode(), capture_output=True)


def said(text, *arguments):
    done = csvsum(text, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_a_column():
    assert said(SALES, "amount") == "16.75\n"


def test_by_another_column():
    assert said(SALES, "-b", "shop", "amount") == "North\t13.50\nSouth\t3.25\n"


def test_a_file(tmp_path):
    file = tmp_path / "sales 2024.csv"
    file.write_text(SALES)
    assert said("", "amount", str(file)) == "16.75\n"


def test_empty_fields_and_lines():
    assert said("a,b\n1,\n\n2,5\n", "b") == "5.00\n"


def test_no_rows():
    assert said("a,b\n", "b") == "0.00\n"


def test_carriage_returns():
    assert said(SALES.replace("\n", "\r\n"), "-b", "shop", "amount") == "North\t13.50\nSouth\t3.25\n"


def test_signs():
    assert said("a\n-1.5\n+2\n.25\n", "a") == "0.75\n"


def test_what_is_no_number_is_named():
    done = csvsum("a,b\n1,2\n3,four\n", "b")
    assert done.returncode == 1
    assert b"line 3: 'four' is no number" in done.stderr
    assert done.stdout == b""


def test_a_column_that_is_not_there():
    assert b"no column price" in csvsum(SALES, "price").stderr
    assert csvsum(SALES, "-b", "town", "amount").returncode == 1


def test_wrong_arguments():
    assert csvsum("").returncode == 2
    assert csvsum("", "a", "b", "c").returncode == 2
