"""Words of others, made to keep their reader busy: everything that reads them does so in a bounded time.

In a process of its own, whose processor's time is limited to several times what it takes; a bad pattern needs minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bot.quiet import quiet
from service.webhooks import command
from service.webhooks.visible import visible

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
LONGEST = 32_768
PROCESSOR_SECONDS = 24  # what blanks behind a mention once took, with a pattern that tried them in every division
PIECES = [
    "@patchwright ", "@patchwright\t", " ", "\t", "\n ", "x\n", "On 1", "On : ", ":", "-", "_", "<pre", "<pre>",
    "</pre>", "From: @", "@", "- ", "1. ", "> ", "[", "](", "![](", '![](a "', "<img ", "<img src='", "`", "``` ", "~",
    "<!--", "-->", "\\", "#1", "http://", "@a/",
    "&#", "a.", "GH-1", "abcdef0", "\N{RIGHT-TO-LEFT OVERRIDE}", "On 1 wrote:\n",
    "Reply to this email", "    x\n", "*",
]  # fmt: skip
READ = """
import asyncio, json, resource, sys
from agent.issue_pictures import illustrated
from service.bot.quiet import code, fenced, quiet, quoted
from service.webhooks.commands import command
seconds, pieces, begun = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
for text in pieces + begun:
    command(text, "patchwright")
for text in pieces:
    for shown in (quiet, fenced, code, quoted):
        shown(text)
    asyncio.run(illustrated(text, None))
print("done")
"""


def hostile() -> tuple[list[str], list[str]]:
    """Each piece over and over, and behind what a pattern begins with, before what it doesn't end with."""
    texts = [(piece * LONGEST)[:LONGEST] for piece in PIECES]
    begun = [
        (start + piece * LONGEST)[: LONGEST - 1] + "!" for start in ("@patchwright", "On ", "![](") for piece in PIECES
    ]
    return texts, begun


def test_no_text_keeps_its_reader_busy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps([PROCESSOR_SECONDS, *hostile()]),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, "@patchwright fix", "\n", "\n\n", "words"]), max_size=30).map("".join))
def test_what_is_read_of_a_text_lies_within_it(text: str) -> None:
    seen = visible(text)
    assert len(seen.own) == len(seen.shown)
    found = command(text, "patchwright")
    assert found is None or "@patchwright" in text
    assert "@patchwright" not in quiet(text)
