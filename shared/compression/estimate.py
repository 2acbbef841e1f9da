"""About how many tokens a text has, without anybody's tokenizer.

Byte-pair tokenizers cut a text into words, numbers of up to three digits, punctuation and white space before they merge
(OpenAI's published pattern for `o200k_base`), so a run of white space is about one token, and so are eight letters.
"""

from __future__ import annotations

import re

PIECES = re.compile(r" ?[^\W\d_]{1,8}|\d{1,3}| ?[^\w\s]{1,2}|_|\s+")
SLICE_CHARS = 16 * 1024
"""A search holds up all other threads until it ends. A cut adds a token at most."""


def tokens_in(text: str) -> int:
    """An estimate; never 0 for a text that is not empty."""
    return sum(len(PIECES.findall(text, start, start + SLICE_CHARS)) for start in range(0, len(text), SLICE_CHARS))
