"""A model as a run uses it: what `connect` gives, with everything around it that no run should go without.

The order matters. Retries are the innermost, so that what goes on behind a cut stream is one stream to the others;
a constraint that is given up and a budget for thinking end such a stream and begin another.
Left out: admission to the server's memory (`runtime.admission`), which is asked per run and not per request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runtime.models.base import Model
    from runtime.models.retry import Retry


_ANY_NUMBER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class StackSettings:
    """What a user may choose of it. Times in seconds."""

    idle_timeout: float = 600.0  # longest silence of a server inside an answer
    patience: float = 600.0  # waited in all for a server that is away, busy or failing, since the last new token
    constrained: bool = False  # honour `RequestOptions.constrain_to`, with an unconstrained second try


async def open_model(
    target: str, settings: StackSettings | None = None, *, on_retry: Callable[[Retry], None] | None = None
) -> Model:
    """The model at `target` (forms: `runtime.models.connect`), ready for a run. Raises a `ModelError`."""
    from runtime.models.connect import connect

    settings = settings or StackSettings()
    return wrap(await connect(target, idle_timeout=settings.idle_timeout), settings, on_retry=on_retry)


def wrap(model: Model, settings: StackSettings, *, on_retry: Callable[[Retry], None] | None = None) -> Model:
    """The same for a model that is there already. Closing what it gives closes `model`."""
    from runtime.models.retry import RetryPolicy, with_retries
    from runtime.models.thinking import with_thinking_budget

    # Time alone decides: a large model takes minutes to come back, and a try costs nothing while it is away.
    policy = RetryPolicy(retries=_ANY_NUMBER, seconds=settings.patience)
    model = with_retries(model, policy, on_retry=on_retry)
    if settings.constrained:
        from runtime.models.constrained import with_constraints

        model = with_constraints(model, on_retry=on_retry)
    return with_thinking_budget(model)
