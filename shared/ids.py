"""Identifiers as types, so that one cannot be passed where another is meant."""

from __future__ import annotations

import re
from typing import NewType

from shared.errors import Invalid

TenantId = NewType("TenantId", str)
KeyId = NewType("KeyId", str)
DocumentId = NewType("DocumentId", str)
ChunkId = NewType("ChunkId", str)
RequestId = NewType("RequestId", str)

PLATFORM = TenantId("platform")
"""The reserved tenant that operators belong to. It has an audit log (in the control database) and no documents."""

TENANT_NAME = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]")
RESERVED_TENANTS = frozenset({PLATFORM, "postgres", "template", "dcoder", "admin", "root", "system"})


def tenant_id(text: str) -> TenantId:
    """Check a tenant's name: 3 to 32 of a-z, 0-9 and hyphen, a letter first, no hyphen last. Raises `Invalid`."""
    if not TENANT_NAME.fullmatch(text) or "--" in text or text in RESERVED_TENANTS:
        raise Invalid(
            f"{text[:64]!r} is not a tenant name: 3 to 32 characters a-z, 0-9 and single hyphens, "
            f"starting with a letter, and none of {', '.join(sorted(RESERVED_TENANTS))}"
        )
    return TenantId(text)
