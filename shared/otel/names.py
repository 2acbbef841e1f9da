"""The names of OpenTelemetry's conventions that we use, and those of our own; no other module spells one out.

Sources: open-telemetry/semantic-conventions-genai (status Development, as of 2026-11), semantic conventions 1.38 for
HTTP and errors (stable). The package `opentelemetry-semantic-conventions` marks its `gen_ai.*` constants as deprecated
since they have moved there, so they stand here.
"""

from __future__ import annotations

from collections.abc import Mapping

# attributes of a model's call
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"  # cached ones included
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  a name
ERROR_TYPE = "error.type"

# attributes of a function's call
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"

# attributes of ours
FUNCTION = "dcoder.function"
REQUEST_ID = "dcoder.request_id"
TENANT = "dcoder.tenant"  # hashed
FEATURE = "dcoder.feature"
CACHE = "dcoder.cache"
COST = "dcoder.cost_micro_usd"
SAVED = "dcoder.saved_micro_usd"

# metrics
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105  a name
CLIENT_DURATION = "gen_ai.client.operation.duration"
CLIENT_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
CLIENT_PER_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
SERVER_DURATION = "gen_ai.server.request.duration"
SERVER_FIRST_TOKEN = "gen_ai.server.time_to_first_token"  # noqa: S105  a name
SERVER_PER_TOKEN = "gen_ai.server.time_per_output_token"  # noqa: S105  a name
HTTP_DURATION = "http.server.request.duration"
OVERHEAD = "dcoder.gateway.overhead"
COST_TOTAL = "dcoder.cost"
SAVED_TOTAL = "dcoder.saved_cost"
DROPPED = "dcoder.telemetry.dropped"

TOKENS = tuple(float(4**power) for power in range(14))
OPERATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
PER_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
OVERHEAD_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

HISTOGRAMS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    TOKEN_USAGE: ("{token}", TOKENS),
    CLIENT_DURATION: ("s", OPERATION_S),
    CLIENT_FIRST_CHUNK: ("s", FIRST_TOKEN_S),
    CLIENT_PER_CHUNK: ("s", PER_TOKEN_S),
    SERVER_DURATION: ("s", OPERATION_S),
    SERVER_FIRST_TOKEN: ("s", FIRST_TOKEN_S),
    SERVER_PER_TOKEN: ("s", PER_TOKEN_S),
    HTTP_DURATION: ("s", HTTP_S),
    OVERHEAD: ("s", OVERHEAD_S),
}
"""Unit and bucket boundaries, as the conventions advise them."""
COUNTERS: Mapping[str, str] = {COST_TOTAL: "{micro_usd}", SAVED_TOTAL: "{micro_usd}", DROPPED: "{record}"}

OPERATIONS: Mapping[str, str] = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "doc-chat": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""Our features, in the conventions' words. Of what they have no word for, the feature's name is taken."""
PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "openai-compatible": "openai",
}
"""Our kinds of providers, likewise."""
