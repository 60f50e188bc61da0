"""A bucket in front of a function."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar

from limiter.bucket import Bucket

_Called = TypeVar("_Called", bound=Callable[..., Any])


def limited(rate: float, capacity: float = 1, **options: Any) -> Callable[[_Called], _Called]:
    """Calls of the function wait for a token each. `options` go to the Bucket."""

    def decorate(function: _Called) -> _Called:
        bucket = Bucket(rate, capacity, **options)

        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            bucket.acquire()
            return function(*arguments, **named)

        wrapper.bucket = bucket  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate
