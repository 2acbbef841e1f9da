"""Where code is: what stands between fences, and texts that are code as a whole. It is passed on as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
NUMBERED = r"^\s*(?:\d+\s*[:|→\t-]\s?)?\s*"
CODE_LINE = re.compile(
    NUMBERED
    + r"(?:(?:async\s+)?(?:def|class|func|fn|function)\s+\w|import\s+[\w{*\"'.]|from\s+[\w.]+\s+import\b|package\s+\w"
    r"|return\b|(?:if|for|while|with|switch|elif|else|try|except|catch|finally|match|case)\b.*[:{]\s*$"
    r"|(?:let|const|var|val|public|private|protected|static|export|struct|enum|interface|impl|type)\s+\w"
    r"|#include\b|#!|//|/\*|\*/|@\w+|@@\s|[+-]{3}\s|diff --git\b|</?[a-z][\w-]*[\s>/]"
    r"|(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|FROM|WHERE)\s"
    r"|[\w.\[\]\"']+\s*[-+*/|&]?=\s*\S|[)\]}]+[;,]?\s*$|.*[;{}]\s*$)"
)
CODE_LINES_LEAST = 2
SHARE_LEAST = 0.2
LINES_LOOKED_AT = 400
ENDS_LOOKED_AT_CHARS = 200
"""Of a line, its beginning and its end tell what it is. A pattern may take the square of a line's length."""


def is_code(text: str) -> bool:
    """Whether the text looks like source code or a patch. It errs towards code."""
    lines = [line for one in text.split("\n", LINES_LOOKED_AT)[:LINES_LOOKED_AT] if (line := one.strip())]
    found = sum(1 for line in lines if CODE_LINE.match(ends_of(line)))
    return found >= CODE_LINES_LEAST and found >= SHARE_LEAST * len(lines)


def ends_of(line: str) -> str:
    if len(line) <= 2 * ENDS_LOOKED_AT_CHARS:
        return line
    return line[:ENDS_LOOKED_AT_CHARS] + line[-ENDS_LOOKED_AT_CHARS:]


def outside_fences(text: str, change: Callable[[str], str]) -> str:
    """The text with everything changed but what stands between fences. A fence that is not closed goes to the end."""
    done, position, opened = [], 0, ""
    for fence in FENCE.finditer(text):
        if opened:
            if fence[1] == opened:
                end = text.find("\n", fence.end()) + 1 or len(text)
                done.append(text[position:end])
                position, opened = end, ""
        elif fence.start() >= position:
            done.append(change(text[position : fence.start()]))
            position, opened = fence.start(), fence[1]
    rest = text[position:]
    done.append(rest if opened else change(rest))
    return "".join(done)
