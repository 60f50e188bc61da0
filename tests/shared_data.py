"""Where the shared real cases lie, next to the checkout, and the mark for tests that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

AnyTest = TypeVar("AnyTest", bound=Callable[..., Any])


def needs_shared(test: AnyTest) -> AnyTest:
    """Mark a test as `shared` and skip it where the shared cases are missing."""
    skip = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no shared cases at {SHARED}")
    marked: AnyTest = pytest.mark.shared(skip(test))
    return marked
