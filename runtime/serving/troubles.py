"""What to try when a server ends by itself: known lines of a log, and the advice for each."""

from __future__ import annotations

import re
from typing import Final

ADVICE: Final = (
    (
        r"CUDA out of memory|out of memory|Not enough (GPU )?memory|state cache is too small|failed to allocate",
        "there was not enough memory: give a smaller --context, or pass a lower fraction on, after the other options: "
        "-- --mem-fraction-static 0.7",
    ),
    (
        r"address already in use|Address already in use|bind: ",
        "another process listens on this port: give another --port",
    ),
    (
        r"No module named 'sglang(_router)?'|No module named sglang(_router)?\b",
        "SGLang is not installed for this python: install it (pip install 'sglang>=0.5.23', or sglang-router), or name "
        "a python that has it in PATCHWRIGHT_SGLANG_PYTHON (PATCHWRIGHT_ROUTER_PYTHON)",
    ),
    (
        r"No such file or directory|command not found",
        "the program is not on PATH: install it, or name it in PATCHWRIGHT_SGLANG_PYTHON, PATCHWRIGHT_LLAMA_SERVER or "
        "PATCHWRIGHT_VLLM",
    ),
    (
        r"unrecognized arguments|error: invalid argument|unknown argument|invalid choice",
        "the server doesn't know an option: it may be of another version than the one these options are for "
        "(SGLang 0.5.23, vLLM 0.32, llama.cpp of autumn 2026)",
    ),
    (
        r"401 Client Error|GatedRepo|RepositoryNotFound|is not a valid model identifier|404 Client Error",
        "the hub doesn't give out these weights: check the name, or download them first and give the folder",
    ),
    (
        r"LocalEntryNotFound|offline mode|Max retries exceeded|Name or service not known|Failed to resolve",
        "the hub can't be reached from here: download the weights elsewhere and give the folder",
    ),
    (
        r"compute capability|no kernel image is available|not supported on this (GPU|device)",
        "this card is too old for these weights or kernels: try another form, such as the int4 one",
    ),
)


def advice(log: str) -> tuple[str, ...]:
    """What to try, for each known trouble in the last lines of a log."""
    return tuple(text for pattern, text in ADVICE if re.search(pattern, log))
