"""Hours out of a plain text log."""

from tally.entries import BadLine, Entry, parse, parse_line
from tally.report import by_day, by_tag, table

__all__ = ["BadLine", "Entry", "by_day", "by_tag", "parse", "parse_line", "table"]
