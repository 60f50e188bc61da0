"""A running dashboard for each test; the modules that ask for much of it mark themselves heavy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.dashboard.serving import Dashboard, dashboard


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Dashboard]:
    with dashboard(tmp_path) as found:
        yield found
