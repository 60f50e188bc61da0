"""The formats, each as a function of the columns' names and the rows."""

from __future__ import annotations

from typing import Any, Iterable, Sequence


def to_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Fields with commas, quoted where they must be; lines end in CR and LF."""
    table = [list(names)]
    for row in rows:
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
    table = [list(names)]
    for row in rows:
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
