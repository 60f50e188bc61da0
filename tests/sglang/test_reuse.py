"""The benchmark of prefix reuse on the real server, with short turns: the whole of it takes half an hour there."""

from __future__ import annotations

import pytest

from benchmarks import prefix_reuse
from benchmarks.reuse_conversation import USER_AFTER, conversation
from runtime.prefix import Strategy

pytestmark = [pytest.mark.sglang, pytest.mark.timeout(1800)]

TURNS = USER_AFTER + 4  # the user's message is among them, and what follows on it


def test_ours_computes_less_than_any_form_of_messages(sglang_installed: None) -> None:
    rules = prefix_reuse.RULES[Strategy.EXTRA_BUFFER]
    with prefix_reuse.real_server(rules) as server:
        ours, uses, others = prefix_reuse.compare(server, conversation(0.1)[:TURNS])
    differences = [abs((use.cached or 0) - (use.expected or 0)) for use in uses]
    assert max(differences) < prefix_reuse.GRID  # beside the other forms' prompts, which cut ours into parts
    assert all(ours.computed <= form.computed for form in others)
    _, dropped, never = others
    assert 2 * ours.computed < dropped.computed < never.computed  # a third needs turns of full length
