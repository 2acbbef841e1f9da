"""OpenAI's error shape, which its SDKs parse and act on."""

from __future__ import annotations

from shared.errors import Problem

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
CODES = {401: "invalid_api_key", 413: "request_too_large", 429: "rate_limit_exceeded"}
"""Where OpenAI has a code of its own. Elsewhere ours is more telling than null."""


def error_type(status: int) -> str:
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def openai_error(problem: Problem) -> dict[str, object]:
    """`{"error": {message, type, param, code}}`. `openai_code` and `param` come from the problem's members."""
    return {
        "error": {
            "message": problem.detail,
            "type": error_type(problem.status),
            "param": problem.members.get("param"),
            "code": problem.members.get("openai_code") or CODES.get(problem.status, problem.code),
        }
    }
