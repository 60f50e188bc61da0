from __future__ import annotations

import pytest

from tools.syntax import SyntaxProblem, new_problems

GOOD = b"def f(x):\n    if x:\n        return (x,\n                1)\n    return None\n"


@pytest.mark.parametrize(
    ("after", "line", "words"),
    [
        (GOOD.replace(b"1)", b"1"), 3, "'(' was never closed"),
        (GOOD.replace(b"if x:", b"if x"), 2, "expected ':'"),
        (GOOD.replace(b"    return None", b"      return None"), 5, "unindent does not match"),
        (GOOD.replace(b"        return (x", b"    return (x"), 3, "expected an indented block"),
        (GOOD + b"try:\n    pass\nx = 1\n", 8, "expected 'except'"),
        (GOOD + b"x = = 1\n", 6, "invalid syntax"),
        (GOOD + b'x = """abc\n', 6, "unterminated triple-quoted"),
    ],
)
def test_a_new_error_is_found_in_its_line(after: bytes, line: int, words: str) -> None:
    (problem,) = new_problems("a.py", GOOD, after)
    assert problem.line == line and words in problem.text


@pytest.mark.parametrize(
    "after",
    [
        GOOD + b"print 'python 2'\nexec 'x' in y\n",
        GOOD + b"type X = int\ndef g[T](a: T) -> T: ...\nf'{'nested'}'\n",
        GOOD.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GOOD,
        b"# coding: latin-1\nx = '\xe9'\n",
        b"",
    ],
)
def test_no_false_alarm(after: bytes) -> None:
    assert new_problems("a.py", GOOD, after) == []
    assert new_problems("a.py", None, after) == []


def test_an_error_that_was_there_is_no_news() -> None:
    broken = b"def f(:\n    pass\n"
    assert new_problems("a.py", broken, broken + b"x = 1\n") == []
    assert new_problems("a.py", broken, b"y = 0\n" + broken) == []
    (problem,) = new_problems("a.py", broken, broken + b"\n\nx = = 1\n")
    assert problem.line == 5


def test_mending_is_no_news() -> None:
    assert new_problems("a.py", GOOD + b"x = (\n", GOOD) == []


def test_only_python() -> None:
    assert new_problems("a.txt", None, b"x = = 1") == []
    assert new_problems("a.pyi", None, b"x = = 1") == [SyntaxProblem(1, "invalid syntax")]


def test_deep_nesting_is_survived() -> None:
    assert new_problems("a.py", None, b"x = " + b"(" * 5000 + b")" * 5000 + b"\n") == []
