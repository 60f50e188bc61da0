"""One file per way to reach a model; `base` is the protocol that they share, `connect` picks one."""

from __future__ import annotations

from runtime.models.connect import connect

__all__ = ["connect"]
