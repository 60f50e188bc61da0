"""The files that the official harness leaves of an instance: patch.diff, eval.sh, test_output.txt, report.json,
run_instance.log. The last one grows as things happen; the others appear whole.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.judging.base import LOG_FILE, OFFICIAL_FILES, REPORT_FILE


class OfficialFiles:
    """In one instance's folder, which is emptied of what an earlier try left. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in OFFICIAL_FILES:
            (folder / name).unlink(missing_ok=True)
        self._log = (folder / LOG_FILE).open("w", encoding="utf-8", errors="replace")

    def path(self, name: str) -> Path:
        return self._folder / name

    def write(self, name: str, data: bytes) -> None:
        """Replace a file in one step."""
        scratch = self._folder / f".{name}.partial"
        try:
            scratch.write_bytes(data)
            scratch.replace(self._folder / name)
        finally:
            scratch.unlink(missing_ok=True)

    def report(self, instance_id: str, report: Mapping[str, Any]) -> None:
        self.write(REPORT_FILE, json.dumps({instance_id: report}, indent=4).encode())

    def log(self, text: str) -> None:
        """A message with the time, as the harness's logger writes it; it may have several lines."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        self._log.write(f"{stamp},{int(now * 1000) % 1000:03d} - INFO - {text}\n")
        self._log.flush()

    def close(self) -> None:
        self._log.close()


def as_bytes(text: str) -> bytes:
    """UTF-8, with the bytes that were none kept where the text still knows them."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # halves of pairs, which JSON can hold and no file can
        return text.encode("utf-8", "replace")
