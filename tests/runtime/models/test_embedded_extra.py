"""Tests that need the extra `embedded` skip without it; where the environment demands it, this fails instead."""

from __future__ import annotations

import importlib
import os

import pytest

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", ["torch", "transformers", "tokenizers"])
def test_the_extra_is_there_where_it_is_demanded(name: str) -> None:
    if "torch" not in os.environ.get("PATCHWRIGHT_REQUIRE", "").split(","):
        pytest.skip("PATCHWRIGHT_REQUIRE doesn't name torch")
    importlib.import_module(name)
