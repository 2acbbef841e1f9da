"""Tenants: a database and a role for each, created by a resumable saga, migrated in waves, deleted for good."""

from shared.tenancy.migrations import migrate_control
from shared.tenancy.moving import MOVE_ASKED
from shared.tenancy.registry import Tenant, TenantRegistry
from shared.tenancy.servers import Servers
from shared.tenancy.template import build_template, build_templates

__all__ = ["MOVE_ASKED", "Servers", "Tenant", "TenantRegistry", "build_template", "build_templates", "migrate_control"]
