"""Plain tables of a page. Left out: the one that is sorted (`instances`)."""

from __future__ import annotations

from collections.abc import Sequence

from evals.report.html import Html, element


def plain_table(name: str, head: Sequence[str], rows: Sequence[Sequence[str | Html]]) -> Html:
    """A table whose first column names the row and whose others are numbers, unless they are markup.

    `name`: said to those who don't see it, when the keyboard comes to scroll it.
    """
    markup = {at for row in rows for at, cell in enumerate(row) if isinstance(cell, Html)} | {0}
    first = [element("th", one, scope="col", class_=None if at in markup else "number") for at, one in enumerate(head)]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            [element("td", cell, class_=None if isinstance(cell, Html) else "number") for cell in row[1:]],
        )
        for row in rows
    ]
    table = element("table", element("thead", element("tr", first)), element("tbody", body))
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)
