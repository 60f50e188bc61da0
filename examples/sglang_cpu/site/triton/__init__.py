"""Stand-in for Triton: SGLang imports it in hundreds of modules, and nothing of it can run without a GPU.

The real package takes a gigabyte. Here every name exists, decorators hand a kernel's place to an object that says
what is missing when it is launched, and the few plain functions that run on the host are real.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

__version__ = "3.7.1"  # which of its features SGLang believes in; none is ever used
__path__: list[str] = []


class Kernel:
    """What `@triton.jit` leaves of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __getitem__(self, grid: Any) -> Callable[..., NoReturn]:
        return self

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f"SGLang launched its Triton kernel {self.fn.__module__}.{self.__name__}, and there is no GPU. It needs a "
            "stand-in in examples/sglang_cpu, or settings that avoid it."
        )


class Config:
    """Settings that `autotune` would try."""

    def __init__(self, kwargs: dict[str, Any] | None = None, **settings: Any) -> None:
        self.kwargs = kwargs or {}
        self.settings = settings


def jit(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    return Kernel if function is None else Kernel(function)


def autotune(*_: Any, **__: Any) -> Callable[[Any], Any]:
    return lambda kernel: kernel


heuristics = autotune


def cdiv(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def next_power_of_2(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


class Anything(ModuleType):
    """A module, type or function of Triton's: each attribute is another one, and nothing can be an instance of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full_name = f"{self.__name__}.{name}"
        if full_name == "triton.runtime.driver.active":
            raise RuntimeError("0 active drivers ([]). There should only be one.")  # what the real one says of a CPU
        found = sys.modules.get(full_name) or Anything(full_name)
        setattr(self, name, found)
        return found

    def __call__(self, *arguments: Any, **_: Any) -> Any:
        if len(arguments) == 1 and callable(arguments[0]):
            return arguments[0]  # used as a decorator
        return self

    def __getitem__(self, _: Any) -> Anything:
        return self

    def __or__(self, _: Any) -> Anything:
        return self

    __ror__ = __or__

    def __mro_entries__(self, _: Any) -> tuple[type, ...]:
        return ()

    def __instancecheck__(self, _: Any) -> bool:
        return False

    def __contains__(self, _: Any) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False


class _Finder(MetaPathFinder, Loader):
    """Makes every submodule on demand."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.startswith("triton.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


sys.meta_path.insert(0, _Finder())


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = sys.modules.get(f"triton.{name}") or Anything(f"triton.{name}")
    globals()[name] = found
    return found
