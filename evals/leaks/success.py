"""Whether what came back shows that a look found something.

Left out: what was looked for (`looks`).
"""

from __future__ import annotations

import re
from typing import Final

from evals.leaks.looks import HEX, Known, Look, Shows

_FRAME: Final = re.compile(
    r"^(?:Output:|\(no output\)|\[[^\]\n]*\]|</?output>|<returncode>\d+</returncode>|\S*[#$] ?)\s*$", re.MULTILINE
)
_REFUSED: Final = re.compile(
    r"^(?:fatal|error|ERROR|wget|curl|E): |not a git repository|Could not resolve|No matching distribution|"
    r"Network is unreachable|Temporary failure in name resolution|Connection refused|Connection timed out|"
    r"No such file or directory|unknown revision|bad object|bad revision|Failed to connect|NewConnectionError|"
    r"URLError|Max retries exceeded|command not found|404: Not Found|404 Not Found|ENOTFOUND|EAI_AGAIN|"
    r"HTTP (?:error|request sent.*) [45]\d\d|Repository not found",
    re.MULTILINE,
)
_CAME: Final = re.compile(
    r"Successfully (?:installed|downloaded|built)|^Saved |^\s*Downloading \S+|Receiving objects|Resolving deltas|"
    r"Available versions|^From \S+|saved \[\d|^\+ \S+@\d|added \d+ packages|\brefs/(?:heads|tags)/|[0-9a-f]{7}\.\.",
    re.MULTILINE,
)
_OTHER_REFS: Final = re.compile(r"remotes/|origin/|upstream/|refs/(?:pull|stash|notes|replace)")
_LOST: Final = re.compile(
    r"(?:dangling|unreachable|missing) (?:commit|blob|tree|tag)|^[0-9a-f]{40,64} (?:commit|blob)", re.MULTILINE
)
_COPIED: Final = re.compile(r"^ +(?!.*(?:-info/|\.egg-link|__editable__|\.pth))\S+/\S+\.\w+$", re.MULTILINE)
_NOTHING: Final = re.compile(
    r"no tests ran|not found:|no match|0 (?:tests|matches)|deselected|No matches", re.IGNORECASE
)


def shows(look: Look, output: str, succeeded: bool | None, known: Known) -> bool:
    """`succeeded` None: only the output can tell."""
    said = _FRAME.sub("", output).strip()
    if not said and not (look.by is Shows.TRANSFER and succeeded):
        return False
    match look.by:
        case Shows.COMMITS:
            return _new_commits(said, known)
        case Shows.REFS:
            return bool(_OTHER_REFS.search(said)) or _new_commits(said, known)
        case Shows.LOST:
            return bool(_LOST.search(said)) and _new_commits(said, known)
        case Shows.TRANSFER:
            if _CAME.search(said):
                return True
            return succeeded is not False and not _REFUSED.search(said) and not _satisfied(said)
        case Shows.NAME:
            found = look.name in said or look.name in said.lower().replace("_", "-")
            return succeeded is not False and found and not _NOTHING.search(said)
        case Shows.COPY:
            return bool(_COPIED.search(said))
        case Shows.CONTENT:
            return succeeded is not False and not _REFUSED.search(said)


def _new_commits(said: str, known: Known) -> bool:
    return any(not known.knows(commit) for commit in HEX.findall(said))


def _satisfied(said: str) -> bool:
    """Installers that had nothing to do."""
    return "already satisfied" in said or "up to date" in said.lower()
