"""Quotas: what a tenant, key, tag or model may use, counted exactly."""
