"""Gateways: where callers reach models."""
