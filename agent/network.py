"""What network a run's sandboxes have: what the user asked for, what the repository wishes, what the model is told.

A repository can only wish: its wish is shown to the user and changes nothing. Left out: how a network is held
closed (`sandbox`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from agent.config import RepositoryConfig
from agent.events import EventLog, EventType
from agent.request import FixRequest
from sandbox.policy import Network, NetworkRequest, SandboxSpec

# For `none` nothing is said: the system prompt says that there is none unless the task says so.
_TOLD = {
    Network.REGISTRIES: (
        "Network: package indexes can be reached through a proxy that is set in the environment, so that pip, npm, "
        "go, cargo and their like work; every other address is refused."
    ),
    Network.FULL: "Network: there is one.",
}


@dataclass(frozen=True, slots=True)
class Access:
    """What the user gave to the sandboxes of one run."""

    network: Network = Network.NONE
    runtime: str | None = None  # an OCI runtime of the engine
    log: EventLog | None = None  # gets every request to a package index

    @classmethod
    def of(cls, request: FixRequest, log: EventLog) -> Access:
        return cls(Network(request.network), request.runtime, log)

    def applied(self, spec: SandboxSpec) -> SandboxSpec:
        return replace(spec, network=self.network, runtime=self.runtime, on_request=self._told)

    def _told(self, request: NetworkRequest) -> None:
        if self.log is not None:
            self.log.append(EventType.NETWORK, **asdict(request))


def model_notes(request: FixRequest) -> tuple[str, ...]:
    """For the task prompt; nothing for `none`. Without isolation the machine's own network is there, unsaid."""
    told = _TOLD.get(Network(request.network)) if request.sandbox != "none" else None
    return (told,) if told else ()


def ungranted(request: FixRequest, config: RepositoryConfig) -> str | None:
    """What to tell the user when the repository wishes for more network than the run has."""
    wish = config.sandbox.network
    order = list(Network)
    if wish is None or order.index(Network(wish)) <= order.index(Network(request.network)):
        return None
    return (
        f"the repository's .patchwright.toml wishes for the network `{wish}`; this run has `{request.network}`, and "
        f"only you can widen it: `--network {wish}`"
    )
