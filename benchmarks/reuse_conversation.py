"""The conversation of `prefix_reuse.py`: a run of thirty turns, the same in whatever form it is sent.

The turns are what a model writes: thinking, then a call, of which every third is a command, every third a script and
every third an edit; and here and there bytes that are not those a chat template would make of them again. Left out:
whether the turns make sense.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from runtime.chat import canonical_turn

TURNS: Final = 30
USER_AFTER: Final = 14  # the turn that the user answers; it has no call
THINKING = (40, 240)  # words of a turn
SCRIPT = (16, 56)  # lines of a script, and of an edit's two sides together
OBSERVATION = (1, 8)  # lines of what a tool says

_WORDS: Final = """
    the a this that each page total count empty list test case value returns where when because so then first last
    check run look see wrong right off by one before after change keep file line function module import error
    expected actual reproduces passes fails would should might maybe wait actually let me read again it is not only
""".split()  # noqa: SIM905  (a list of words is text)
_LINES: Final = (
    "def {a}_{b}(self, {c}: int) -> list[str]:",
    "    {a} = self.{b}[{c}] if {c} else None",
    "    for {a} in sorted({b}, key=lambda {c}: {c}.{a}):",
    "        if {a} is not None and {b}.{c}():",
    '            raise ValueError(f"{{{a}!r}} is no {b} of {c}")',
    "        return [{a}, *{b}[{c}:]]",
    "    assert {a}.{b} == {c}",
    "",
)


@dataclass(frozen=True, slots=True)
class Step:
    """What the model writes in a turn, and what it is answered."""

    text: str
    answer: str
    by_user: bool = False


def _wide_end(text: str) -> str:
    return text.replace("\n</think>", "\n\n</think>")


def _one_newline(text: str) -> str:
    return text.replace("</think>\n\n", "</think>\n")


def _trailing(text: str) -> str:
    return text + "\n"


def _indented(text: str) -> str:
    return " " + text


def _python_value(text: str) -> str:
    return text.replace("\ntrue\n", "\nTrue\n")


def _close_json(text: str) -> str:
    return text.replace("[1, 40]", "[1,40]")


DEVIATIONS: Final[dict[int, Callable[[str], str]]] = {
    3: _wide_end,
    7: _one_newline,
    11: _close_json,
    17: _trailing,
    21: _python_value,
    26: _indented,
}
"""One turn in five; a model's own way to write what a template writes otherwise."""


def conversation(size: float = 1.0) -> list[Step]:
    """All turns, the last one without an answer that matters; with texts of `size` times the usual length."""
    words = random.Random(30)
    return [_step(number, words, size) for number in range(TURNS)]


def _step(number: int, words: random.Random, size: float) -> Step:
    thinking = _prose(words, _some(words, THINKING, size))
    if number == USER_AFTER:
        return Step(canonical_turn(thinking, _prose(words, 40)), "Yes, that is what I meant. Go on.", by_user=True)
    text = canonical_turn(thinking, "", [_call(number, words, size)])
    deviate = DEVIATIONS.get(number)
    if deviate is not None:
        changed = deviate(text)
        assert changed != text, f"the deviation of turn {number} changes nothing"
        text = changed
    return Step(text, f"Output:\n{_code(words, _some(words, OBSERVATION, size))}\n[exit status 0, 0.12 s]")


def _prose(words: random.Random, count: int) -> str:
    return " ".join(words.choice(_WORDS) for _ in range(count)) + "."


def _code(words: random.Random, lines: int) -> str:
    """Lines that look like a program's, none of them as another."""
    names = [f"{words.choice(_WORDS)}{words.randrange(100)}" for _ in range(3 * lines)]
    chosen = (words.choice(_LINES) for _ in range(lines))
    return "\n".join(
        line.format(a=names[at], b=names[lines + at], c=names[2 * lines + at]) for at, line in enumerate(chosen)
    )


def _some(words: random.Random, usual: tuple[int, int], size: float) -> int:
    low, high = (max(2, round(number * size)) for number in usual) if size != 1.0 else usual
    return words.randint(low, high)


def _call(number: int, words: random.Random, size: float) -> dict[str, Any]:
    path = f"src/package/module_{words.randrange(40)}.py"
    if number == 11:
        arguments: dict[str, Any] = {"command": "view", "path": path, "view_range": [1, 40]}
        return {"name": "str_replace_editor", "arguments": arguments}
    if number == 21:
        return {"name": "search", "arguments": {"pattern": f"def step_{number}", "regex": True}}
    if number % 3 == 0:
        return {"name": "bash", "arguments": {"command": f"python -m pytest -q {path} -k step_{number}"}}
    lines = _some(words, SCRIPT, size)
    if number % 3 == 1:
        script = f"python - <<'END'\n{_code(words, lines)}\nEND"
        return {"name": "bash", "arguments": {"command": script}}
    old, new = _code(words, lines // 2), _code(words, lines // 2)
    arguments = {"command": "str_replace", "path": path, "old_str": old, "new_str": new}
    return {"name": "str_replace_editor", "arguments": arguments}
