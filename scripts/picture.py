"""Draw a run as the terminal shows it: scripts/picture.py EVENTS.jsonl docs/run.svg. For the README."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from agent.events import EventType, read_events
from cli import view

WIDTH = 110
MOST_LINES = 90


def main() -> None:
    log, target = Path(sys.argv[1]), Path(sys.argv[2])
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, color_system="truecolor")
    view._MOST_LINES = 6
    totals = view.Totals()
    console.print("$ agent fix examples/demo/repo examples/demo/issue.md --model examples/demo/model\n", markup=False)
    lines = []
    for event in read_events(log):
        totals.take(event)
        if event.type not in (EventType.RUN_ENDED, EventType.DELIVERED):
            lines += [(style, line) for style, line in view.describe(event, totals)]
    half = MOST_LINES // 2
    if len(lines) > MOST_LINES:
        lines = [*lines[:half], ("note", f"... {len(lines) - 2 * half} lines ..."), *lines[-half:]]
    for style, line in lines:
        console.print(line, style=view.STYLES[style], markup=False, no_wrap=True, overflow="ellipsis")
    console.print("\nVERIFIED (exit code 0)", style="bold green")
    svg = console.export_svg(title="agent fix")
    # Without the web fonts that the drawing would load: it must look the same offline.
    target.write_text(re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main()
