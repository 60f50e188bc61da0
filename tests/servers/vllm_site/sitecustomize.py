"""Runs at the start of each of vLLM's processes on a CPU.

The compiled half of torchvision from the registry is built for CUDA and doesn't load beside a CPU torch; its Python
half then describes operators that nobody has defined. They are defined here, and never called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any

_library: Any = None  # what a library defined goes with it


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing; takes the chance to act when torchvision is looked for."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> None:
        global _library
        if fullname != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        _library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, _BeforeTorchvision())
