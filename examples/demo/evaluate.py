"""How surely a checkpoint tells the demo run: argmax and exact sampling probability on runs it was not trained on.

Teacher forcing gives both in one pass per run: a token is right when it is the likeliest after the true beginning,
and the probability of a whole run at temperature 0.6 is the product over its tokens after top_k and top_p cut.
Left out: real tools (the tests and `make demo` run those).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from examples.demo.conversation import conversation
from examples.demo.script import TURNS, specs
from examples.demo.vary import Recording, Roughness, vary
from runtime.models.base import Sampling
from runtime.tokenizer import Tokenizer

SAMPLING = Sampling()
HELD_OUT_SEED = 5_000_000  # training seeds stay far below

# Lines of other programs, for what none of the training lines is like.
FOREIGN = (
    "<frozen runpy>:128: RuntimeWarning: 'pytest.__main__' found in sys.modules after import of package 'pytest'",
    "/usr/lib/python3/dist-packages/requests/__init__.py:109: RequestsDependencyWarning: urllib3 (2.2.1) doesn't match",
    "perl: warning: Setting locale failed. Please check that your locale settings are supported and installed.",
    "bash: cannot set terminal process group (-1): Inappropriate ioctl for device",
    "error: could not lock config file /root/.gitconfig: Read-only file system",
    "PytestConfigWarning: Unknown config option: asyncio_default_fixture_loop_scope",
    "-- Docs: https://docs.pytest.org/en/stable/how-to/capture-warnings.html",
    "Note: 3 background processes of this command are still running (pid 48213, 48214, 48220).",
    "warning: detected dubious ownership in repository; safe.directory was ignored",
    "Using --randomly-seed=2837465102",
    "benchmark: 4.0.0 (defaults: timer=time.perf_counter disable_gc=False min_rounds=5)",
    "ls: cannot access 'paging/__pycache__': Permission denied",
)


@dataclass(frozen=True, slots=True)
class Score:
    """Shares between 0 and 1 over the runs that were told; `worst` is the least likely run."""

    runs: int
    turns_right: float
    runs_right: float
    run_probability: float
    worst: float
    first_errors: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.runs} runs: turns {self.turns_right:.1%}, whole runs {self.runs_right:.1%} (greedy); "
            f"a run at T 0.6: mean {self.run_probability:.5f}, worst {self.worst:.5f}"
        )


def held_out(
    recordings: Sequence[Recording], count: int, change: Callable[[Recording, Random], Recording]
) -> list[Recording]:
    randoms = [Random(HELD_OUT_SEED + index) for index in range(count)]
    return [change(recordings[index % len(recordings)], random) for index, random in enumerate(randoms)]


def elsewhere(recording: Recording, random: Random) -> Recording:
    """Unseen folders, times, versions and histories."""
    return vary(recording, random)


def one_warning(recording: Recording, random: Random) -> Recording:
    """The same, and a real warning in one answer, at its end or start."""
    told = vary(recording, random)
    texts = list(told.observations)
    which = random.randrange(len(texts))
    texts[which] = _insert(texts[which], random, (0, 1, -1))
    return Recording(told.workdir, tuple(texts))


def warnings_everywhere(recording: Recording, random: Random) -> Recording:
    """The same, and one or two real warnings anywhere in every answer: far worse than anything real."""
    told = vary(recording, random)
    texts = [
        _insert(_insert(text, random), random) if random.random() < 0.5 else _insert(text, random)
        for text in told.observations
    ]
    return Recording(told.workdir, tuple(texts))


def noise(recording: Recording, random: Random) -> Recording:
    """Noise of the kind that was trained on."""
    return vary(recording, random, Roughness(foreign=0.5))


TESTS: dict[str, Callable[[Recording, Random], Recording]] = {
    "elsewhere": elsewhere,
    "one warning": one_warning,
    "noise": noise,
    "warnings everywhere": warnings_everywhere,
}


def _insert(text: str, random: Random, places: Sequence[int] = ()) -> str:
    lines = text.split("\n")
    place = random.choice(places) if places else random.randint(0, len(lines))
    lines.insert(place if place >= 0 else len(lines), random.choice(FOREIGN))
    return "\n".join(lines)


def score(network: Any, tokenizer: Tokenizer, told: Iterable[Recording]) -> Score:
    """Leaves the network in the mode that it was in."""
    was_training = network.training
    network.eval()
    right: list[list[bool]] = []
    probability: list[float] = []
    errors: list[str] = []
    tools = specs()
    for one in told:
        run = conversation(tokenizer, one, tools)
        with torch.no_grad():
            logits, targets, turns = target_logits(network, run.ids, run.turn_of)
        hit = logits.argmax(-1) == targets
        right.append([bool(hit[turns == turn].all()) for turn in range(len(TURNS))])
        probability.append(float(_sampling_probability(logits, targets).double().prod()))
        if not hit.all():
            first = int((~hit).nonzero()[0])
            wrote = tokenizer.decode([int(logits[first].argmax())])
            wanted = tokenizer.decode([int(targets[first])])
            errors.append(f"turn {int(turns[first])}: {wrote!r} for {wanted!r}")
    network.train(was_training)
    count = len(right)
    return Score(
        count,
        sum(map(sum, right)) / (count * len(TURNS)),
        sum(map(all, right)) / count,
        sum(probability) / count,
        min(probability),
        tuple(errors[:3]),
    )


def target_logits(network: Any, ids: Sequence[int], turn_of: Sequence[int]) -> tuple[Any, Any, Any]:
    """Logits before each token that the model writes, these tokens, and their turns; the rest costs no logits."""
    tokens, turns = torch.tensor(ids), torch.tensor(turn_of)
    places = (turns[1:] >= 0).nonzero()[:, 0]
    hidden = network.model(input_ids=tokens[None, :-1], use_cache=False).last_hidden_state[0]
    return network.lm_head(hidden[places]).float(), tokens[1:][places], turns[1:][places]


def _sampling_probability(logits: Any, targets: Any) -> Any:
    """The exact probability that sampling picks each target."""
    likely, index = torch.softmax(logits / SAMPLING.temperature, -1).topk(SAMPLING.top_k, -1)
    likely = likely * (likely.cumsum(-1) - likely <= SAMPLING.top_p)
    likely = likely / likely.sum(-1, keepdim=True)
    return (likely * (index == targets[:, None])).sum(-1)
