"""What the model can call: each tool is a spec and one async function over a sandbox (`tools.base`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.base import Tool


def standard_tools() -> list[Tool]:
    """The tools of a run, in the order in which the model reads their specs; make new ones for each run."""
    from tools.bash import Bash
    from tools.search import Search
    from tools.str_replace_editor import StrReplaceEditor
    from tools.submit import Submit

    return [Bash(), StrReplaceEditor(), Search(), Submit()]
