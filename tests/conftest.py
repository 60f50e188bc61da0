"""A part that PATCHWRIGHT_REQUIRE names and that is missing ends the run; elsewhere its tests skip with a reason."""

from __future__ import annotations

import importlib.util
import os

import pytest

from tests.shared_data import SHARED


def pytest_sessionstart(session: pytest.Session) -> None:
    required = set(filter(None, os.environ.get("PATCHWRIGHT_REQUIRE", "").split(",")))
    if "shared" in required and not SHARED.is_dir():
        pytest.exit(f"the shared cases are required and not at {SHARED}", returncode=1)
    if "torch" in required and "torch" in str(session.config.option.markexpr).replace("not torch", ""):
        missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
        if missing:
            pytest.exit(f"required and not installed: {', '.join(missing)}", returncode=1)
