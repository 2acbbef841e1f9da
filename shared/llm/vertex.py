"""Claude on Vertex AI: Anthropic's messages under Google's paths, with Google's credentials.

Source: Anthropic, "Claude on Vertex AI", and its SDK's client for it: the model stands in the path, the version in the
body, and a counting of tokens has a path of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

VERSION = "vertex-2023-10-16"
PUBLISHER = "/publishers/anthropic/models"
COUNT_PATH = f"{PUBLISHER}/count-tokens:rawPredict"
PLAIN = "-._~@"
"""What may stand in a model's name and is no part of a path."""

Json = dict[str, Any]  # Any: JSON


def message_path(model: str, *, stream: bool) -> str:
    return f"{PUBLISHER}/{quote(model, safe=PLAIN)}:{'streamRawPredict' if stream else 'rawPredict'}"


def message_body(content: Mapping[str, Any]) -> Json:  # Any: JSON
    told = {name: value for name, value in content.items() if name != "model"}
    return {**told, "anthropic_version": VERSION}


def count_body(content: Mapping[str, Any], model: str) -> Json:  # Any: JSON
    """Tokens are counted by the model's name alone: one with its version is refused."""
    return {**content, "model": model.partition("@")[0], "anthropic_version": VERSION}
