"""The cliff that admission is for, and that it keeps runs away from it."""

from __future__ import annotations

import pytest

from benchmarks import admission


@pytest.mark.parametrize(("at_once", "by_tokens", "least", "most"), [(16, False, 0.0, 0.2), (16, True, 0.9, 1.0)])
def test_hit_rate(monkeypatch: pytest.MonkeyPatch, at_once: int, by_tokens: bool, least: float, most: float) -> None:
    monkeypatch.setattr(admission, "TURNS", 300)
    monkeypatch.setattr(admission, "WARM_UP", 300)
    outcome = admission.Simulation(admission.Server(), at_once, by_tokens=by_tokens).run()
    assert least <= outcome.hit_rate <= most
