"""A model in this process: transformers on CPU or GPU, for checkpoints of the Qwen3.5/3.6 architecture.

For machines without a server and for tests with real weights; a server (`runtime.models.sglang`) is many times
faster. Requests run one after another on one thread, their ids stream into the event loop.

Importing this module is cheap: torch and transformers (extra `embedded`) are imported by `load`.
Left out: pictures, several devices, batches, constrained decoding.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtime.chat import IM_END
from runtime.models.base import (
    NO_OPTIONS,
    Chunk,
    ContextExceeded,
    Feature,
    FinishReason,
    HostFacts,
    ModelFailed,
    ModelRefused,
    ModelUnreachable,
    RequestOptions,
    Sampling,
    Usage,
)
from runtime.models.embedded_tokenizer import CheckpointTokenizer

if TYPE_CHECKING:
    from runtime.models.embedded_decoding import Decoder
    from runtime.transcript import Ids

_END_OF_TEXT: Final = "<|endoftext|>"
_ARCHITECTURES: Final = ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text")
_SMALL: Final = 1 << 29  # parameters; below this a CPU computes in float32


def load(
    path_or_id: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    context_length: int | None = None,
    kept_caches: int = 4,
    prefill_chunk: int = 1024,
    threads: int | None = None,
) -> EmbeddedModel:
    """Load a checkpoint: a folder (config.json, tokenizer.json, safetensors), or a hub id as transformers takes it.

    `device` is torch's name; by default a CUDA device if there is one, else the CPU. `dtype` is torch's name; by
    default the checkpoint's own, but float32 for a small model on a CPU (more exact there, and no slower).
    `context_length` in tokens can only lower the checkpoint's. `kept_caches` bounds how many prefixes stay in
    memory, `prefill_chunk` how many tokens go through the model at once. `threads` sets torch's thread count
    for the whole process; by default it is left alone. Transformers' own messages are turned down to errors.

    Blocks for as long as reading the weights takes. A hub id is fetched unless HF_HUB_OFFLINE=1 is set.
    Raises `ModelUnreachable` when something is missing, `ModelRefused` for a checkpoint of another kind.
    """
    source = str(path_or_id)
    torch, transformers = _libraries()
    config, tokenizer = _describe(transformers, source)
    if threads is not None:
        torch.set_num_threads(threads)
    network = _network(torch, transformers, source, config, device=device, dtype=dtype)
    longest = int(config.max_position_embeddings)

    from runtime.models.embedded_decoding import Decoder

    return EmbeddedModel(
        source,
        tokenizer,
        Decoder(network, kept_caches=kept_caches, prefill_chunk=prefill_chunk),
        context_length=min(longest, context_length or longest),
        embedding_rows=int(config.vocab_size),
    )


class EmbeddedModel:
    """A loaded checkpoint as a `Model`. Concurrent streams wait for each other."""

    def __init__(
        self,
        name: str,
        tokenizer: CheckpointTokenizer,
        decoder: Decoder,
        *,
        context_length: int,
        embedding_rows: int,
    ) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._decoder = decoder
        self._context_length = context_length
        self._embedding_rows = embedding_rows
        self._stop_ids = {tokenizer.special(IM_END), tokenizer.special(_END_OF_TEXT)}
        self._closed = threading.Event()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-model")

    @property
    def name(self) -> str:
        return self._name

    @property
    def tokenizer(self) -> CheckpointTokenizer:
        return self._tokenizer

    @property
    def facts(self) -> HostFacts:
        return HostFacts("embedded", features=frozenset({Feature.EXACT_IDS, Feature.CACHED_TOKENS}))

    @property
    def context_length(self) -> int:
        return self._context_length

    async def stream(
        self, ids: Ids, sampling: Sampling, *, request_id: str, options: RequestOptions = NO_OPTIONS
    ) -> AsyncIterator[Chunk]:
        """See `Model.stream`; one chunk per token. `<|endoftext|>` ends a turn too and is given as `<|im_end|>`.

        Closing the iterator stops the work within one token (or one piece of the prefill).
        """
        prompt = self._checked(list(ids))
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
        cancelled = threading.Event()

        def put(chunk: Chunk | None) -> None:
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            except RuntimeError:  # the event loop was closed under us, so nobody listens any more
                cancelled.set()

        work = self._worker.submit(self._generate, prompt, sampling, put, cancelled)
        work.add_done_callback(lambda _: put(None))
        try:
            while (chunk := await chunks.get()) is not None:
                yield chunk
            work.result()  # raises what ended the work, if anything did
        finally:
            cancelled.set()
            work.cancel()

    async def close(self) -> None:
        """Ends running requests with `abort` and waits for the worker."""
        self._closed.set()
        await asyncio.to_thread(self._worker.shutdown)

    def _checked(self, prompt: list[int]) -> list[int]:
        if self._closed.is_set():
            raise ModelUnreachable(f"The model {self._name} was closed. Load it again.")
        if not prompt or min(prompt) < 0 or max(prompt) >= self._embedding_rows:
            raise ModelRefused(
                f"The prompt for {self._name} is empty or has ids outside 0..{self._embedding_rows - 1}. "
                "Encode it with this model's own tokenizer."
            )
        if len(prompt) >= self._context_length:
            raise ContextExceeded(
                f"The prompt has {len(prompt)} tokens and {self._name} takes {self._context_length} with the "
                "output. Shorten it, or load the model with a longer context."
            )
        return prompt

    def _generate(self, prompt: list[int], sampling: Sampling, put: Any, cancelled: threading.Event) -> None:
        """Runs on the worker thread."""
        from runtime.models.embedded_decoding import Progress

        def is_cancelled() -> bool:
            return cancelled.is_set() or self._closed.is_set()

        limit = min(sampling.max_new_tokens, self._context_length - len(prompt))
        progress = Progress()
        tokens = self._decoder.tokens(prompt, sampling, progress, is_cancelled)
        finish: FinishReason | None = None
        try:
            for token in tokens:
                finish = self._finish(token, progress.completion_tokens, limit)
                finish = finish or (FinishReason.ABORT if is_cancelled() else None)
                written = self._tokenizer.special(IM_END) if finish is FinishReason.STOP else token
                put(Chunk((written,), finish, _usage(prompt, progress)))
                if finish:
                    return
            put(Chunk((), FinishReason.ABORT, _usage(prompt, progress)))
        except (RuntimeError, MemoryError) as error:  # torch's errors, out of memory among them
            raise ModelFailed(
                f"{self._name} failed after {progress.completion_tokens} tokens on a prompt of {len(prompt)}: "
                f"{error}. If memory ran out, lower kept_caches, prefill_chunk or context_length."
            ) from error
        finally:
            tokens.close()

    def _finish(self, token: int, count: int, limit: int) -> FinishReason | None:
        if token in self._stop_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if count >= limit else None


def _usage(prompt: list[int], progress: Any) -> Usage:
    return Usage(len(prompt), progress.cached_tokens, progress.completion_tokens)


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelUnreachable(
            f"A model in this process needs torch and transformers ({error}). "
            "Install them with: pip install 'patchwright[embedded]'"
        ) from error
    # Progress bars and advice on faster kernels would land in the middle of the terminal view.
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return torch, transformers


def _describe(transformers: Any, source: str) -> tuple[Any, CheckpointTokenizer]:
    """The text model's config and the tokenizer."""
    folder = Path(source)
    if folder.is_dir():
        missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
        if missing:
            raise ModelUnreachable(
                f"The folder {source} has no {' and no '.join(missing)}. A checkpoint has config.json, "
                "tokenizer.json and its weights as .safetensors files."
            )
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        tokenizer_file = transformers.utils.cached_file(source, "tokenizer.json")
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnreachable(
            f"{source} is neither a checkpoint's folder nor a hub id that can be had: {error}"
        ) from error
    if config.model_type not in _ARCHITECTURES:
        raise ModelRefused(
            f"{source} is of the architecture {config.model_type}. In this process only Qwen3.5/3.6 checkpoints "
            f"run ({', '.join(_ARCHITECTURES)}); serve others with SGLang and give its URL."
        )
    return config.get_text_config(), CheckpointTokenizer.from_file(Path(tokenizer_file))


def _network(torch: Any, transformers: Any, source: str, config: Any, *, device: str | None, dtype: str | None) -> Any:
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype or "auto")
    except (OSError, ValueError) as error:
        raise ModelUnreachable(f"The weights of {source} can't be read: {error}") from error
    if dtype is None and place == "cpu" and network.num_parameters() < _SMALL:
        network = network.float()
    return network.to(place).eval()
