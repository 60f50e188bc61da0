"""The formats, each as a function of the columns' names and the rows."""

from __future__ import annotations

from typing import Any, Iterable, Sequence


class TableError(ValueError):
    """Rows that make no table."""


def to_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Fields with commas, quoted where they must be; lines end in CR and LF."""
    if not names:
        raise TableError("a table has at least one column")
    table = [list(names)]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise TableError(f"row {number} has {len(row)} values for {len(names)} columns")
        cells = []
        for value in row:
            if value is None:
                cells.append("")
            elif value is True:
                cells.append("1")
            elif value is False:
                cells.append("0")
            elif isinstance(value, float):
                cells.append(f"{value:g}")
            else:
                cells.append(str(value))
        table.append(cells)
    text = ""
    for cells in table:
        quoted = []
        for cell in cells:
            if "," in cell or '"' in cell or "\n" in cell or "\r" in cell:
                cell = '"' + cell.replace('"', '""') + '"'
            quoted.append(cell)
        text += ",".join(quoted) + "\r\n"
    return text


def to_tsv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Fields with tabs, special characters escaped; lines end in LF."""
    if not names:
        raise TableError("a table has at least one column")
    table = [list(names)]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise TableError(f"row {number} has {len(row)} values for {len(names)} columns")
        cells = []
        for value in row:
            if value is None:
                cells.append("\\N")
            elif value is True:
                cells.append("true")
            elif value is False:
                cells.append("false")
            elif isinstance(value, float):
                cells.append(repr(value))
            else:
                cells.append(
                    str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
                )
        table.append(cells)
    text = ""
    for cells in table:
        text += "\t".join(cells) + "\n"
    return text


def to_markdown(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as they must be, at least three; no line end behind the last line."""
    if not names:
        raise TableError("a table has at least one column")
    table = [[name.replace("|", "\\|") for name in names]]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise TableError(f"row {number} has {len(row)} values for {len(names)} columns")
        cells = []
        for value in row:
            if value is None:
                cells.append("-")
            elif value is True:
                cells.append("yes")
            elif value is False:
                cells.append("no")
            elif isinstance(value, float):
                cells.append(f"{value:.2f}")
            else:
                cells.append(str(value).replace("|", "\\|").replace("\n", "<br>"))
        table.append(cells)
    widths = [max(3, *(len(cells[column]) for cells in table)) for column in range(len(names))]
    lines = []
    for cells in table:
        lines.append("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |")
        if len(lines) == 1:
            lines.append("| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
