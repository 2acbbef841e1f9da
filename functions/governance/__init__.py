"""Governance: tenants, keys, secrets, usage, audit, events, schedules."""
