"""Vectors as OpenAI's clients ask for them by default."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence


def base64_of(vector: Sequence[float]) -> str:
    """Little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
