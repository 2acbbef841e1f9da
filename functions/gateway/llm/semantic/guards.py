"""Differences that no similarity makes good. Deterministic: values in, the name of the first difference out."""

from __future__ import annotations

import re
from collections import Counter

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
NEGATION = re.compile(r"\b(?:not|no|never|none|without|nor|neither|cannot|nothing)\b|n['’]t\b", re.IGNORECASE)


def difference(one: str, other: str) -> str:
    """What the two questions differ in, or an empty text."""
    if Counter(NUMBER.findall(one)) != Counter(NUMBER.findall(other)):
        return "number"
    if len(NEGATION.findall(one)) != len(NEGATION.findall(other)):
        return "negation"
    return ""
