"""The command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tally.entries import BadLine, parse
from tally.report import by_day, by_tag, table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tally", description="Hours out of a plain text log.")
    parser.add_argument("log", type=Path)
    parser.add_argument("--by", choices=["day", "tag"], default="day")
    chosen = parser.parse_args(arguments)
    try:
        entries = list(parse(chosen.log.read_text(encoding="utf-8").splitlines()))
    except (OSError, BadLine) as error:
        print(f"tally: {error}", file=sys.stderr)
        return 1
    print(table(by_day(entries) if chosen.by == "day" else by_tag(entries)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
