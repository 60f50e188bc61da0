"""The benchmark of prefix reuse, on the scripted server: its goals are met, and each form is what it says."""

from __future__ import annotations

import pytest

from benchmarks import prefix_reuse
from benchmarks.reuse_conversation import DEVIATIONS, TURNS, USER_AFTER, conversation
from runtime.prefix import Reason, Strategy
from runtime.tool_calls import parse


@pytest.mark.parametrize("strategy", list(prefix_reuse.RULES))
def test_ours_computes_a_third_and_never_more_than_another(
    strategy: Strategy, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, rules = conversation(), prefix_reuse.RULES[strategy]
    with prefix_reuse.scripted_server(rules, steps) as server:
        ours, uses, others = prefix_reuse.compare(server, steps)
    assert prefix_reuse.report(ours, uses, others) == []
    assert capsys.readouterr().out.count("met    ") == 3
    assert {reason for use in uses for reason in use.uncached} <= {Reason.NEW, Reason.GRANULARITY}
    kept, dropped, never = others
    assert ours.prompt < kept.prompt + 100
    assert kept.prompt > dropped.prompt > never.prompt


def test_the_conversation_is_what_models_write() -> None:
    steps = conversation()
    assert len(steps) == TURNS
    assert [step.by_user for step in steps].index(True) == USER_AFTER
    for number, step in enumerate(steps):
        turn = parse(step.text, prefix_reuse.SPECS)
        assert len(turn.calls) == (number != USER_AFTER)
        assert not turn.problems or number in DEVIATIONS
        assert turn.reasoning
    assert steps == conversation()
