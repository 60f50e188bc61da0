"""Runs at the start of each Python process of the server, for what must happen before SGLang is imported.

- torchvision from the registry: its compiled half is built for CUDA and doesn't load beside a CPU torch, and its
  Python half then describes operators that nobody has defined. They are defined here, and never called.
- CPUs with AMX: SGLang would take its AMX kernels, which the stand-in for `sgl_kernel` doesn't have.
- The stand-in for Triton is for SGLang only: torch looks for Triton too, and must find none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from typing import Any


def _before_sglang() -> None:
    import torch

    torch.cpu._is_amx_tile_supported = lambda: False
    sys.modules["triton"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import torch._inductor.runtime.triton_heuristics
        import torch.utils._triton

        torch.utils._triton.has_triton_package()  # remembers what it found
    finally:
        del sys.modules["triton"]


def _before_torchvision() -> None:
    import torch

    global _torchvision  # what a library defined goes with it
    _torchvision = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        _torchvision.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class _Before(MetaPathFinder):
    """Finds nothing; takes the chance to act when a package is looked for the first time."""

    def __init__(self, actions: dict[str, Callable[[], None]]) -> None:
        self._actions = actions

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        if action := self._actions.pop(fullname, None):
            action()


_torchvision: Any = None
sys.meta_path.insert(0, _Before({"sglang": _before_sglang, "torchvision": _before_torchvision}))
