from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.near_match import explain

FILE = """\
import os


class Reader:
    def __init__(self, path):
        self.path = path

    def read(self):
        with open(self.path) as file:
            return file.read()

    def size(self):
        return os.path.getsize(self.path)
"""


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ("  def read(self):\n    with open(self.path) as file:", "Lines 8-9 differ from it only in indentation"),
        ("    def read(self):  \n", "white space at the end of lines"),
        ("\tdef read(self):\n\t\twith open(self.path) as file:\n", "(the file has spaces there)"),
        ("    def __init__(self,path):", "white space inside lines"),
        ("    def __init__(\n        self, path):", "line breaks"),
        ("     8\t    def read(self):\n", "it has the line numbers of `view` in it"),
        ("class Reader:\\n    def __init__", "`\\n` written out"),
        ("\n\n\n\nclass Reader:\n", "empty lines at an end"),
        ("   \n", "nothing but white space"),
        ("zzz qqq 123", "Nothing in the file is like it"),
    ],
)
def test_causes(old: str, words: str) -> None:
    explanation = explain(FILE, old, "new")
    assert words in explanation
    assert explanation == explanation.strip()


def test_escapes() -> None:
    assert "XML escapes" in explain("if a < b and c:\n", "if a &lt; b", "x")
    assert "backslash before quotation marks" in explain('x = "a"\n', 'x = \\"a\\"', "x")


def test_nearest_lines_with_numbers_and_the_first_difference() -> None:
    old = "    def read(self):\n        with open(self.path) as handle:\n            return handle.read()\n"
    assert explain(FILE, old, "new") == (
        "Nearest in the file:\n"
        "Lines 8-10, 93 % alike:\n"
        "     8\t    def read(self):\n"
        "     9\t        with open(self.path) as file:\n"
        "    10\t            return file.read()\n"
        "The first difference is in line 9:\n"
        "  file:    '        with open(self.path) as file:'\n"
        "  old_str: '        with open(self.path) as handle:'"
    )


def test_an_edit_that_is_done_already() -> None:
    explanation = explain(FILE, "return os.stat(self.path).st_size", "return os.path.getsize(self.path)")
    assert "`new_str` is in the file already, at line 13" in explanation


def test_a_large_file_is_searched_in_bearable_time() -> None:
    text = "".join(f"    value_{number} = compute({number}, 'some text that is alike')\n" for number in range(100_000))
    old = "    value_77777 = compute(77777, 'some text that is a like')\n    value_77778 = compute(1)\n" * 20
    started = time.process_time()
    assert "77777" in explain(text, old, "x")
    assert time.process_time() - started < 5


@given(st.text(alphabet="ab \n\t\r(\\", max_size=60), st.text(alphabet="ab \n\t\r(\\&lt;1", min_size=1, max_size=30))
def test_there_is_always_an_answer(text: str, old: str) -> None:
    assert explain(text, old, "ab")
