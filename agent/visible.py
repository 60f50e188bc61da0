"""Text of others, made safe to look at: what can't be seen or steers the line it stands in is written out.

Escaping for a page or a terminal comes on top of it. Left out: Markdown, whose hidden parts `service.webhooks.visible`
knows.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_PLAIN: Final = re.compile(r"[\t\n -~]*")
# Characters that reorder or hide what stands around them, so that text looks like other text.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def visible(text: str) -> str:
    """`text` with control characters, lone surrogates and marks of direction written as `\\x1b` and the like."""
    text = text.replace("\r\n", "\n")
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        char if char in "\t\n" or unicodedata.category(char) not in _HIDDEN else ascii(char)[1:-1] for char in text
    )
