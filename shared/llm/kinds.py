"""The kinds of model providers: which wire format each speaks, where it is, and how it takes a key.

Sources: each provider's API reference; Azure's "v1" API takes the deployment's name as the model and no `api-version`;
Google's is its OpenAI-compatible endpoint (Gemini API, "OpenAI compatibility").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DOC_CHAT, EMBEDDING = "doc-chat", "all-minilm-l6-v2"
"""Models that are built in."""
GROUP = "group/"
"""Before the name of a group of models, in a key's scope."""
Dialect = Literal["openai", "anthropic"]
"""Those of our routes."""
Wire = Literal["openai", "anthropic", "gemini"]
"""Those of providers. Who asks in another than the provider's is translated for."""
ANTHROPIC_VERSION = b"2023-06-01"
CLAUDE = "claude"
"""How Anthropic's models are called at Vertex AI."""


@dataclass(frozen=True)
class Kind:
    """One kind. `base_url` is its usual one, empty where it differs from one customer to the other."""

    dialect: Wire = "openai"
    base_url: str = ""
    header: bytes = b"authorization"
    scheme: bytes = b"Bearer "
    new_length: bool = False
    """Whether chat takes `max_completion_tokens`, which reasoning models insist on; others know `max_tokens`."""
    prices: str = ""
    """Where its prices differ from the publisher's of the model: the table has them under this name."""
    keyless: bool = False
    """Whether it can be without a key."""
    service_account: bool = False
    """Whether its key is one of a Google service account, in JSON, for which access tokens are fetched."""
    fetches: tuple[str, ...] = ()
    """How addresses begin from which it fetches images and files by itself."""
    responses: bool = False
    """Whether it has /responses and keeps them."""
    counts: bool = False
    """Whether it has /responses/input_tokens, which counts for nothing."""

    def wire(self, model: str) -> Wire:
        """What it speaks for that model: Vertex AI serves each publisher's models in the publisher's own format."""
        return "anthropic" if self.service_account and model.startswith(CLAUDE) else self.dialect

    def fetched(self, model: str) -> tuple[str, ...]:
        """How addresses begin that it fetches for that model. Claude at Vertex AI takes none."""
        return self.fetches if self.wire(model) == self.dialect else ()

    def credential(self, key: str) -> dict[bytes, bytes]:
        """The header that carries the key; none for who needs none."""
        return {self.header: self.scheme + key.encode()} if key else {}


FILES = ("https://generativelanguage.googleapis.com/v1beta/files/",)
KINDS: Mapping[str, Kind] = {
    "openai": Kind(
        base_url="https://api.openai.com/v1", new_length=True, responses=True, counts=True, fetches=("https://",)
    ),
    "anthropic": Kind("anthropic", "https://api.anthropic.com", b"x-api-key", b"", fetches=("https://",)),
    "azure": Kind(
        header=b"api-key", scheme=b"", new_length=True, prices="azure", responses=True, fetches=("https://",)
    ),
    "google": Kind(base_url="https://generativelanguage.googleapis.com/v1beta/openai"),
    "gemini": Kind("gemini", "https://generativelanguage.googleapis.com/v1beta", b"x-goog-api-key", b"", fetches=FILES),
    "vertex": Kind("gemini", prices="vertex_ai", service_account=True, fetches=("gs://",)),
    "groq": Kind(base_url="https://api.groq.com/openai/v1", new_length=True, fetches=("https://",)),
    "mistral": Kind(base_url="https://api.mistral.ai/v1", fetches=("https://",)),
    "ollama": Kind(base_url="http://127.0.0.1:11434/v1", keyless=True),
    "vllm": Kind(keyless=True),
    "openai-compatible": Kind(keyless=True),
}
KindName = Literal[
    "openai", "anthropic", "azure", "google", "gemini", "vertex", "groq", "mistral", "ollama", "vllm",
    "openai-compatible",
]  # fmt: skip
"""The names of `KINDS`; a test compares the two."""
