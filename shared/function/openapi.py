"""The OpenAPI 3.1 document of some functions, derived from the same declarations that serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.function.app import VERSION, Application
from shared.function.catalog import Deployable
from shared.function.process import Process
from shared.settings import Settings

PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "retryable": {"type": "boolean"},
        "instance": {"type": "string"},
        "request_id": {"type": "string"},
    },
}
PROBLEM = {
    "description": "What went wrong (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(deployables: Sequence[Deployable], settings: Settings) -> dict[str, Any]:  # Any: JSON
    """Typed routes as FastAPI describes them, raw ones by path, permission and docstring."""
    application = Application(deployables, Process(settings, {}))
    described = application.typed.openapi()
    described["info"] = {"title": "D.Coder", "version": VERSION}
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for deployable in deployables:
        for operation, route in deployable.routes():
            methods = described["paths"].setdefault(route.path.replace(":path}", "}"), {})
            entry = methods.setdefault(
                route.method.lower(),
                {
                    "operationId": f"{deployable.name}.{operation.name}",
                    "tags": [deployable.name],
                    "security": [{"key": []}],
                    "x-dcoder-permission": route.permission,
                    "summary": (operation.handler.__doc__ or operation.name).strip().partition("\n")[0],
                    "responses": {str(route.success): {"description": "Success"}},
                },
            )
            entry["responses"].pop("422", None)
            entry["responses"]["default"] = PROBLEM
    return described
