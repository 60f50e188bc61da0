"""Which servers were found to read text as we do, so that connecting to one again costs no request.

Only agreement is kept, for a day, under the server's address and what it says of itself; a mismatch is looked at
anew each time, so that a mended server is seen at once. Servers on this machine are always asked: that takes
milliseconds, and another one may listen on the same port by now. Left out: the comparison (`runtime.models.compare`).
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from runtime.bpe_vocabulary import cache_folder
from runtime.models.compare import Agreement, Comparison, Finding, compare

if TYPE_CHECKING:
    from runtime.models.http_client import Transport
    from runtime.tokenizer import Tokenizer

VALID_SECONDS: Final = 24 * 3600.0


_KNOWN: Final = Finding(Agreement.SAME, "found to be the same less than a day ago")


async def recent_comparison(
    url: str, transport: Transport, tokenizer: Tokenizer, *, identity: str = "", model: str | None = None
) -> Comparison:
    """Whether the server's tokenizer and template are ours, as far as it can be seen.

    `identity` is what the server says of itself (engine, version, model, start time): when it changes, the server
    is asked again. Raises nothing.
    """
    file = _file(url, f"{identity}\n{model}\n{tokenizer.name}")
    if file is not None and _fresh(file):
        return Comparison(_KNOWN, _KNOWN)
    found = await compare(transport, tokenizer, model=model)
    agreed = {found.tokenizer.agreement, found.template.agreement} == {Agreement.SAME}
    if agreed and file is not None:
        _touch(file)
    return found


def _file(url: str, identity: str) -> Path | None:
    host = urlsplit(url).hostname or ""
    folder = cache_folder()
    if folder is None or host in ("localhost", "::1") or host.startswith("127."):
        return None
    return folder / "hosts" / hashlib.sha256(f"{url}\n{identity}".encode()).hexdigest()[:32]


def _fresh(file: Path) -> bool:
    try:
        return 0 <= time.time() - file.stat().st_mtime < VALID_SECONDS
    except OSError:
        return False


def _touch(file: Path) -> None:
    """A cache that can't be written costs a request more next time."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file)
    except OSError:
        pass
