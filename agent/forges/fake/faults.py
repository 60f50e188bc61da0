"""The failures that the fake forge is told to have: limits of both kinds, and answers that get lost."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass
class Fault:
    """Requests that will fail. `done`: the request takes effect all the same, only its answer is lost."""

    method: str
    path: re.Pattern[str]
    times: int
    status: int
    message: str
    headers: dict[str, str]
    done: bool = False


class Faults:
    """Failures to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def now(self) -> float:
        raise NotImplementedError

    def limit(self, path: str = "", *, method: str = "", times: int = 1, retry_after: int | None = 1) -> None:
        """Answer the next requests with a secondary rate limit. None: one that doesn't say how long."""
        headers = {"retry-after": str(retry_after)} if retry_after is not None else {}
        message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        self.faults.append(Fault(method, re.compile(path), times, 403, message, headers))

    def exhaust(self, seconds: float, path: str = "", *, times: int = 1) -> None:
        """Answer the next requests with the hourly limit, which ends in some seconds."""
        reset = str(int(self.now() + seconds))
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset, "x-ratelimit-limit": "5000"}
        self.faults.append(
            Fault("", re.compile(path), times, 403, "API rate limit exceeded for installation ID 1.", headers)
        )

    def breakdown(
        self, path: str = "", *, method: str = "", times: int = 1, status: int = 502, done: bool = False
    ) -> None:
        """Fail the next requests. `done`: they take effect all the same."""
        self.faults.append(Fault(method, re.compile(path), times, status, "Server Error", {}, done))

    def fault(self, method: str, path: str) -> Fault | None:
        for one in self.faults:
            if one.times > 0 and one.method in ("", method) and one.path.search(path):
                one.times -= 1
                return one
        return None
