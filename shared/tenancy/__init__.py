"""Tenants: a database and a role for each, created by a resumable saga, migrated in waves, deleted for good."""

from shared.tenancy.migrations import migrate_control
from shared.tenancy.registry import Tenant, TenantRegistry
from shared.tenancy.template import build_template

__all__ = ["Tenant", "TenantRegistry", "build_template", "migrate_control"]
