"""A model server that answers from a script, over real HTTP and in the shapes of one of several kinds of server.

It is how whole runs are tested and agents are compared, so it ships with the package (`agent model script FILE`).
The script's format and the faults are in `docs/scripted-model.md`. Turns are chosen in `scripted_engine`; the paths
of each kind of server are a module of their own, named in `_DIALECTS`, whose `routes(server)` gives a table from
method and path to handler. What is left out: sampling (the script is the model), log probabilities, and batches of
prompts in one request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtime.models.http_server import Exchange, Handler, HttpError, HttpServer
from runtime.models.script_file import FaultKind, Reading, Script, load_script, parse_script
from runtime.models.scripted_delivery import Delivery, Outcome, ServedRequest
from runtime.models.scripted_engine import Answer, Prompt, ScriptEngine

if TYPE_CHECKING:
    from runtime.tokenizer import Tokenizer

MAX_RECORDS: Final = 10_000

Routes = dict[tuple[str, str], Handler]  # method and path (without the query) -> handler


class Dialect(StrEnum):
    """Whose server it acts as."""

    SGLANG = "sglang"
    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    CHAT = "chat"  # `/v1/chat/completions` and `/v1/models`, nothing that takes token ids


_DIALECTS: Final = {
    Dialect.SGLANG: "runtime.models.scripted_sglang",
    Dialect.VLLM: "runtime.models.scripted_vllm",
    Dialect.LLAMACPP: "runtime.models.scripted_llamacpp",
    Dialect.CHAT: "runtime.models.scripted_chat",
}


class ScriptedServer:
    """`async with ScriptedServer(script) as server:` serves on `server.url` until the block ends.

    `script` is a `Script`, a path, a mapping or a list of turns. `dialect` is the kind of server. `incremental`
    sends deltas instead of all ids in each event (SGLang's `--incremental-streaming-output`), `stream_interval` is
    the tokens per event. `info` are fields of what it tells about itself that replace its own or come on top; those
    that change how SGLang answers are heeded (`docs/scripted-model.md`).
    `requests` are the requests for turns in the order of their arrival, when `record` is on; `on_done` is called
    with each when it has been answered or refused.
    """

    def __init__(
        self,
        script: Script | Path | dict[str, Any] | list[Any],
        tokenizer: Tokenizer | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        dialect: Dialect | str = Dialect.SGLANG,
        info: Mapping[str, Any] | None = None,
        incremental: bool = False,
        stream_interval: int = 1,
        record: bool = True,
        on_done: Callable[[ServedRequest], None] | None = None,
    ) -> None:
        loaded = load_script(script) if isinstance(script, Path) else parse_script(script)
        self.engine = ScriptEngine(loaded, tokenizer or _tokenizer(loaded.tokenizer))
        self.requests: deque[ServedRequest] = deque(maxlen=MAX_RECORDS if record else 0)
        self.url = ""
        self.info = dict(info or {})
        self.closed_sessions: list[str] = []
        self.incremental = incremental
        self.stream_interval = max(1, stream_interval)
        self._on_done = on_done
        self._host = host
        self._port = port
        self._running: dict[str, list[Delivery]] = {}
        self._http = HttpServer(self._handle)
        self.dialect = Dialect(dialect)
        self._routes: Routes = import_module(_DIALECTS[self.dialect]).routes(self)

    @property
    def script(self) -> Script:
        return self.engine.script

    @property
    def open_requests(self) -> int:
        """Requests for turns that are being answered now."""
        return sum(map(len, self._running.values()))

    @property
    def connections(self) -> int:
        """Connections taken since the start."""
        return self._http.connections

    async def __aenter__(self) -> ScriptedServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        port = await self._http.listen(self._host, self._port)
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{shown}:{port}"

    async def close(self) -> None:
        await self._http.close()

    def deliver(self, exchange: Exchange, prompt: Prompt, answer: Answer, served: ServedRequest) -> Delivery:
        """Start an answer; it can be aborted by its `rid` until `done`. Raises `HttpError` where the fault says so."""
        served.turn, served.cached_tokens = answer.index, answer.cached_tokens
        fault = answer.fault
        if fault is not None:
            served.fault = fault.kind
            if fault.kind is FaultKind.HTTP:
                raise HttpError(fault.status, fault.message, retry_after=fault.retry_after)
        delivery = Delivery(served, exchange, prompt, answer, self.script.token_delay)
        self._running.setdefault(served.rid, []).append(delivery)
        return delivery

    def done(self, delivery: Delivery, outcome: Outcome) -> None:
        served = delivery.served
        served.outcome = outcome
        self.engine.remember(delivery.prompt, delivery.answer.tokens.ids[: served.written])
        same = self._running[served.rid]
        same.remove(delivery)
        if not same:
            del self._running[served.rid]
        if self._on_done is not None:
            self._on_done(served)

    def abort(self, rid: str, *, everything: bool = False) -> None:
        """As SGLang does: an unknown `rid` is no error, a known one also aborts those that begin with it."""
        for other, deliveries in self._running.items():
            if everything or (rid in self._running and other.startswith(rid)):
                for delivery in deliveries:
                    delivery.aborted = True
                    delivery.exchange.interrupted.set()

    def refused(self, served: ServedRequest, error: HttpError) -> None:
        served.outcome, served.error = Outcome.REFUSED, str(error)
        if self._on_done is not None:
            self._on_done(served)

    async def _handle(self, exchange: Exchange) -> None:
        request = exchange.request
        route = self._routes.get((request.method, request.path))
        if route is None:
            paths = " ".join(sorted({path for _, path in self._routes}))
            raise HttpError(404, f"{request.method} {request.path} isn't served here; {paths} are.")
        await route(exchange)


def _tokenizer(reading: Reading) -> Tokenizer:
    from runtime.models.scripted_reading import ShiftedTokenizer
    from runtime.qwen_bpe import qwen_tokenizer

    return ShiftedTokenizer(qwen_tokenizer()) if reading is Reading.OTHER else qwen_tokenizer()
