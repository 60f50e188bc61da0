"""Syntax errors that an edit brought into a Python file, found at once instead of in the next test run.

tree-sitter reads any version of Python, so the version that runs the agent doesn't matter; only for the few errors
that tree-sitter forgives is Python's own parser asked. Errors that were there before are no news. Left out: other
languages, names and types.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

_LARGEST = 1 << 20  # bytes of a file that is checked
_MOST = 5


@dataclass(frozen=True, slots=True)
class SyntaxProblem:
    line: int  # from 1
    text: str  # what is wrong, for the model


def new_problems(path: str, before: bytes | None, after: bytes) -> list[SyntaxProblem]:
    """The first errors that the edit brought; none for files that aren't Python. `before` None is a new file."""
    if not path.endswith((".py", ".pyi")) or len(after) > _LARGEST:
        return []
    found = _tree_problems(after)
    if not found:
        return _forgiven_problem(before, after)
    known = Counter(_line(before, problem.line) for problem in _tree_problems(before)) if before else Counter[bytes]()
    fresh = []
    for problem in found:
        line = _line(after, problem.line)
        if known[line]:
            known[line] -= 1
        else:
            fresh.append(problem)
    return _with_words(fresh, before, after)[:_MOST]


def _line(source: bytes | None, number: int) -> bytes:
    lines = (source or b"").split(b"\n")
    return lines[number - 1].strip() if number <= len(lines) else b""


def _tree_problems(source: bytes) -> list[SyntaxProblem]:
    import tree_sitter_python
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_python.language())).parse(source)
    problems: dict[int, SyntaxProblem] = {}
    stack = [tree.root_node]
    while stack:
        node = stack.pop()
        if node.is_error or node.is_missing:
            line = node.start_point[0] + 1
            problems.setdefault(line, SyntaxProblem(line, _words(node)))
        if node.has_error and not node.is_error:
            stack.extend(node.children)
    return [problems[line] for line in sorted(problems)]


def _words(node: Node) -> str:
    if node.is_missing:
        return f"a {node.type!r} is missing"
    text = (node.text or b"").decode(errors="replace").strip().split("\n")[0][:80]
    return f"can't be read at {text!r}" if text else "can't be read"


def _parser_error(source: bytes) -> SyntaxError | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return error
    except (ValueError, MemoryError, RecursionError):  # NUL bytes; nested too deeply for this parser
        return None
    return None


def _forgiven_problem(before: bytes | None, after: bytes) -> list[SyntaxProblem]:
    """What tree-sitter lets pass although no version of Python does: indentation, a `try` that stands alone."""
    error = _parser_error(after)
    if error is None or (before is not None and _parser_error(before) is not None):
        return []
    is_certain = isinstance(error, IndentationError) or error.msg.startswith("expected 'except'")
    return [SyntaxProblem(error.lineno or 1, error.msg)] if is_certain else []


def _with_words(problems: list[SyntaxProblem], before: bytes | None, after: bytes) -> list[SyntaxProblem]:
    """Python's own words in place of tree-sitter's, where Python could read the file before the edit."""
    if not problems or (before is not None and _parser_error(before) is not None):
        return problems
    error = _parser_error(after)
    return [SyntaxProblem(error.lineno or 1, error.msg)] if error else problems
