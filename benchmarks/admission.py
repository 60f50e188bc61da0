"""What admission by tokens is for: hit rate of a server's prefix cache against the number of trajectories on it.

`python benchmarks/admission.py [--check] [--svg FILE]`. A simulation, with the cache's rules and the admission that
runs use: a radix cache that forgets what was used longest ago, with a pool for keys and values and one for recurrent
states. A new trajectory comes whenever one ends; so many may be on the server at once, let in by their number alone,
and by the tokens that they need.

Left out: how fast kernels are (two speeds are assumed and printed), and that a request in flight is never evicted;
both change the turns per minute and not where the cliff is.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where the project isn't installed

from runtime.admission import LocalRegister, Need, Ticket, may_enter
from runtime.prefix import CacheRules, ServerCache, Strategy
from runtime.prefix_tree import Key, key_of

AT_ONCE = (1, 2, 4, 8, 12, 16, 24, 32)
TURNS, WARM_UP = 1200, 600  # turns that are counted, and those before
PREFILL, DECODE = 8000.0, 60.0  # tokens a second: prompts one after another, answers beside each other
TOOLS = 4.0  # seconds that a turn's tools take, on average
LIFE = (40, 80)  # turns of a trajectory
START, ANSWER, OBSERVATION = (
    5000,
    300,
    1200,
)  # tokens: first prompt, of which 4000 are the same in all; a turn's, on average
EXPECTED = 65_536  # tokens that a trajectory asks for when it comes, as `agent fix` does; it may grow beyond
STATES_EACH = 5
RULES = CacheRules(Strategy.EXTRA_BUFFER)
GOAL = 0.90  # hit rate with admission, for any number of trajectories


@dataclass(frozen=True, slots=True)
class Server:
    """The pools of one server."""

    tokens: int = 400_000
    states: int = 800


class Trajectory:
    """An agent's run. Its tokens are its own but for the shared start, and all different."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._words = random.Random(number)
        self.left = self._words.randint(*LIFE)  # turns
        self.ids = Key(key_of(range(4000)) + self._tokens(4000, START - 4000))

    @property
    def length(self) -> int:
        return len(self.ids) // 4

    def answer(self) -> Key:
        return self._tokens(self.length, self._about(ANSWER))

    def go_on(self, answer: Key) -> None:
        """The answer and what the tools said join the prompt."""
        self.ids = Key(self.ids + answer)
        self.ids = Key(self.ids + self._tokens(self.length, self._about(OBSERVATION)))
        self.left -= 1

    def _about(self, mean: int) -> int:
        return int(self._words.uniform(0.2, 1.8) * mean)

    def _tokens(self, start: int, count: int) -> Key:
        first = self._number * 1_000_000 + start
        return key_of(range(first, first + count))


@dataclass(slots=True)
class Outcome:
    """What was seen while it was counted. Tokens and seconds."""

    turns: int = 0
    prompt: int = 0
    cached: int = 0
    seconds: float = 0.0
    live: float = 0.0  # trajectories that were in, times seconds

    @property
    def hit_rate(self) -> float:
        return self.cached / self.prompt

    @property
    def turns_per_minute(self) -> float:
        return 60 * self.turns / self.seconds


class Simulation:
    """A server under load, with at most `at_once` trajectories; `by_tokens` admits them as runs are."""

    def __init__(self, server: Server, at_once: int, *, by_tokens: bool) -> None:
        self._server, self._at_once, self._by_tokens = server, at_once, by_tokens
        self._cache = ServerCache(RULES, server.tokens, server.states)
        self._line = LocalRegister()
        self._random = random.Random(5)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._queue, self._busy = deque[int](), False
        self._events_made = self._turns = 0
        self._in: dict[int, Trajectory] = {}
        self._next = self._line.join(Need(EXPECTED, STATES_EACH))
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """The server begins with trajectories of any age, none of which is cached."""
        now = 0.0
        self._admit(now, aged=True)
        while self._turns < WARM_UP + TURNS:
            before = now
            now, _, happen = heapq.heappop(self._events)
            if self._turns >= WARM_UP:
                self.outcome.seconds += now - before
                self.outcome.live += len(self._in) * (now - before)
            happen(now)
        return self.outcome

    def _admit(self, now: float, *, aged: bool = False) -> None:
        """Let in whoever is next, as long as there is room; somebody always waits."""
        while self._line.enter(self._next, self._may) is None:
            number, one = self._next, Trajectory(self._next)
            for _ in range(self._random.randrange(one.left) if aged else 0):
                one.go_on(one.answer())
            self._in[number] = one
            self._resize(number)
            self._at(now + self._random.random() * TOOLS, partial(self._ask, number))
            self._next = self._line.join(Need(EXPECTED, STATES_EACH))

    def _may(self, tickets: list[Ticket]) -> bool:
        room = (self._server.tokens, self._server.states) if self._by_tokens else (None, None)
        return len(self._in) < self._at_once and may_enter(self._next, tickets, *room)

    def _resize(self, number: int) -> None:
        if self._in[number].length > EXPECTED:
            self._line.change(number, Need(self._in[number].length, STATES_EACH))

    def _ask(self, number: int, now: float) -> None:
        self._queue.append(number)
        if not self._busy:
            self._prefill(now)

    def _prefill(self, now: float) -> None:
        """The server computes the prompt that has waited longest; what it finds cached is known only now."""
        self._busy = bool(self._queue)
        if not self._busy:
            return
        number = self._queue.popleft()
        one = self._in[number]
        self._resize(number)
        cached = self._cache.prefill(one.ids).tokens
        if self._turns >= WARM_UP:
            self.outcome.turns += 1
            self.outcome.prompt += one.length
            self.outcome.cached += cached
        self._turns += 1
        answer = one.answer()
        prefilled = now + (one.length - cached) / PREFILL
        self._at(prefilled, self._prefill)
        self._at(prefilled + len(answer) / 4 / DECODE, partial(self._answered, number, answer))

    def _answered(self, number: int, answer: Key, now: float) -> None:
        one = self._in[number]
        self._cache.keep_written(Key(one.ids + answer[:-4]), one.length)
        one.go_on(answer)
        if one.left:
            self._at(now + self._random.expovariate(1 / TOOLS), partial(self._ask, number))
            return
        del self._in[number]
        self._line.leave(number)
        self._admit(now)

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        self._events_made += 1
        heapq.heappush(self._events, (when, self._events_made, happen))


def _bar(rate: float, width: int = 30) -> str:
    return "#" * round(rate * width)


def _svg(path: Path, rows: list[tuple[int, Outcome, Outcome]]) -> None:
    """Both hit rates over the number of trajectories, as a picture of lines."""
    width, height, left, top = 480, 240, 44, 20
    most = rows[-1][0]

    def points(which: int) -> str:
        return " ".join(
            f"{left + at / most * width:.0f},{top + height * (1 - (by_number, by_tokens)[which].hit_rate):.0f}"
            for at, by_number, by_tokens in rows
        )

    marks = "".join(
        f'<text x="{left - 6}" y="{top + height * (1 - rate) + 4:.0f}" text-anchor="end">{rate:.0%}</text>'
        f'<path d="M{left} {top + height * (1 - rate):.0f}h{width}" stroke="#ddd"/>'
        for rate in (0, 0.25, 0.5, 0.75, 1)
    ) + "".join(
        f'<text x="{left + at / most * width:.0f}" y="{top + height + 18}" text-anchor="middle">{at}</text>'
        for at, *_ in rows[2:]
    )
    lines = "".join(
        f'<polyline points="{points(which)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{left + 20}" y="{top + height - 50 + 18 * which}" fill="{colour}">{name}</text>'
        for which, colour, name in ((0, "#c0392b", "let in by number"), (1, "#1e8449", "let in by tokens"))
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 44}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>{marks}{lines}'
        f'<text x="{left + width / 2:.0f}" y="{top + height + 38}" text-anchor="middle">trajectories at once</text>'
        "</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with status 1 when the goal is missed")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the hit rates into FILE")
    options = parser.parse_args()
    server = Server()
    longest = START + LIFE[1] * (ANSWER + OBSERVATION)
    print(
        f"Pools of {server.tokens} tokens and {server.states} states; trajectories of {START} to {longest} tokens in "
        f"{LIFE[0]} to {LIFE[1]} turns; prefill {PREFILL:.0f} tokens/s, decode {DECODE:.0f} each, tools {TOOLS:.0f} s"
        " a turn.\n"
    )
    print("| at most | hit rate, by number | turns/min | hit rate, by tokens | turns/min | live | |")
    print("|---:|---:|---:|---:|---:|---:|---|")
    rows = []
    for at_once in AT_ONCE:
        free, held = (Simulation(server, at_once, by_tokens=by).run() for by in (False, True))
        rows.append((at_once, free, held))
        print(
            f"| {at_once} | {free.hit_rate:.2f} | {free.turns_per_minute:.0f} | {held.hit_rate:.2f} "
            f"| {held.turns_per_minute:.0f} | {held.live / held.seconds:.1f} | `{_bar(free.hit_rate)}` |",
            flush=True,
        )
    if options.svg:
        _svg(options.svg, rows)
    worst = min(held.hit_rate for _, _, held in rows)
    print(f"\nworst hit rate with admission: {worst:.2f} (goal: at least {GOAL:.2f})")
    if options.check and worst < GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
