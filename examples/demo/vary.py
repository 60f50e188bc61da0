"""One recorded run, told in many ways: what differs between machines and days, and lines that nobody foresaw.

The model's own turns never change. What changes is what it can't know: folders, times, hashes, versions of pytest,
other files in a listing, and foreign lines (warnings, noise) anywhere in what a tool answers. Everything is drawn
from one `random.Random`, so a seed gives the same text on every machine and Python.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from random import Random

_DURATION = re.compile(r"\b\d+\.(\d+)(?= ?s\b)")
_COMMIT = re.compile(r"^[0-9a-f]{7,} .*$", re.MULTILINE)
_CARETS = re.compile(r"^( +)[~^]+\n", re.MULTILINE)  # under lines of a traceback, since Python 3.11
_TEST_ID = re.compile(r"\((tests\.\w+\.\w+)\.test_\w+\)")  # ended with the class before Python 3.11


@dataclass(frozen=True, slots=True)
class Recording:
    """What one real run was told: the work folder in the prompt, and the answer to each turn but the last."""

    workdir: str
    observations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roughness:
    """How much is made different: chances between 0 and 1, each for one observation."""

    foreign: float = 0.0  # foreign lines come in
    lost: float = 0.0  # a third of the lines is missing
    replaced: float = 0.0  # nothing of it is as recorded

    def scaled(self, by: float) -> Roughness:
        return Roughness(self.foreign * by, self.lost * by, self.replaced * by)


TRAINING = Roughness(foreign=0.9, lost=0.2, replaced=0.16)


def vary(recording: Recording, random: Random, roughness: Roughness = Roughness()) -> Recording:
    """The same run on another machine on another day."""
    workdir = any_folder(random)
    texts = [_elsewhere(text, recording.workdir, workdir, random) for text in recording.observations]
    return Recording(workdir, tuple(_rough(text, random, roughness) for text in texts))


def normal(recording: Recording) -> list[str]:
    """The answers without what `vary` changes: two recordings that differ only in that give the same."""
    texts = (text.replace(recording.workdir, "WORKDIR") for text in recording.observations)
    texts = (_TEST_ID.sub(r"(\1)", _CARETS.sub("", _DURATION.sub("N", text))) for text in texts)
    return [_COMMIT.sub("COMMIT", text) for text in texts]


def word(random: Random, least: int = 2, most: int = 9) -> str:
    """Nonsense that can be said."""
    parts = (
        random.choice("bcdfghjklmnprstvwz") + random.choice("aeiou") + random.choice(("", "", "n", "r", "s", "t"))
        for _ in range(4)
    )
    return "".join(parts)[: random.randint(least, most)]


def any_folder(random: Random) -> str:
    """An absolute path such as a checkout may have."""
    roots = (
        "/workspace",
        "/work",
        "/testbed",
        "/repo",
        "/src",
        "/tmp",
        "/var/tmp",
        "/srv",
        "/root",
        "/home/" + word(random),
    )
    deeper = (
        word(random),
        f"{word(random)}-{random.randint(0, 99999)}",
        "tmp" + "".join(random.choices(string.ascii_lowercase + string.digits + "_", k=8)),
        f"patchwright-work-{random.randint(1, 99999)}-{random.randint(1, 10**8)}-{random.getrandbits(128):032x}",
        f"{random.getrandbits(40):0{random.randint(10, 16)}x}",
        "work",
        "repo",
    )
    return "/".join([random.choice(roots), *random.sample(deeper, random.choice((0, 0, 1, 1, 2, 3)))])


def _elsewhere(text: str, recorded: str, workdir: str, random: Random) -> str:
    """Folders, durations, commits, listings and the habits of Python's versions, as they may be elsewhere."""
    text = text.replace(recorded, workdir)
    text = _DURATION.sub(lambda found: _duration(random, len(found[1])), text)
    if _COMMIT.search(text):
        text = _other_history(text, random)
    carets = random.choice((r"\g<0>", "", r"\1~~~~~~~^^^^^^^^^\n"))
    text = _CARETS.sub(carets, text)
    return _TEST_ID.sub(r"(\1)", text) if random.random() < 0.3 else text


def _duration(random: Random, decimals: int) -> str:
    seconds = random.choice(
        (random.uniform(0, 0.01), random.uniform(0, 0.3), random.uniform(0.2, 3), random.uniform(2, 60))
    )
    return f"{seconds:.{decimals}f}"


def _other_history(text: str, random: Random) -> str:
    """Another hash, sometimes other commits, sometimes other files in the listings."""
    lines = text.split("\n")
    commits = [index for index, line in enumerate(lines) if _COMMIT.match(line)]
    subjects = [lines[index].partition(" ")[2] for index in commits]
    if random.random() < 0.4:
        subjects = [" ".join(word(random) for _ in range(random.randint(1, 6))) for _ in range(random.randint(0, 3))]
    digits = random.randint(7, 10)
    lines[commits[0] : commits[-1] + 1] = [
        f"{random.getrandbits(4 * digits):0{digits}x} {subject}" for subject in subjects
    ]
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        name = random.choice(("__pycache__", "LICENSE", "build", word(random) + ".txt", word(random)))
        lines.insert(random.randint(commits[0] + 2, len(lines) - 2), name)
    return "\n".join(lines)


def _rough(text: str, random: Random, roughness: Roughness) -> str:
    if random.random() < roughness.replaced:
        return "\n".join(foreign_line(random) for _ in range(random.randint(1, 8)))
    lines = text.split("\n")
    if random.random() < roughness.lost:
        lines = [line for line in lines if random.random() > 0.33] or lines
    if random.random() < roughness.foreign:
        for _ in range(random.choice((1, 1, 2, 3))):
            place = random.choice((0, len(lines), random.randint(0, len(lines))))
            lines[place:place] = [foreign_line(random) for _ in range(random.choice((1, 1, 2)))]
    return "\n".join(lines).strip() or "(no output)"


def foreign_line(random: Random) -> str:
    """A line such as no tool of the recording printed: prose, a warning, code, or plain noise. Not empty."""
    words = [word(random) for _ in range(random.randint(1, 9))]
    first, last, prose = words[0], words[-1], " ".join(words)
    number = random.choice((random.randint(0, 99), random.randint(0, 999_999)))
    noise = string.punctuation + string.digits + string.ascii_letters
    lines = (
        prose,
        f"{random.choice(('WARNING', 'warning', 'Note', 'error', 'INFO', first))}: {prose}",
        f"{any_folder(random)}/{first}.py:{number}: {last.title()}Warning: {prose}",
        f"{first}: line {number}: {prose}: {random.choice(('No such file or directory', last, 'not found'))}",
        f"{' ' * random.choice((0, 4, 8))}{first} = {last}({number}, {first!r})",
        f"[{number}] {prose.capitalize()} ({first}-{random.randint(0, 9)}.{random.randint(0, 30)})",
        "".join(random.choices(noise, k=random.randint(3, 60))),
        random.choice("=-_*. ").join(words) + random.choice("=-_*.!") * random.randint(1, 40),
    )
    return random.choice(lines)
