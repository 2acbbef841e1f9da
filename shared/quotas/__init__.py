"""Quotas: what a tenant, key, tag or model may use, counted exactly."""

from shared.quotas.counters import SCRIPT, Counters
from shared.quotas.meter import Meter
from shared.quotas.metered import Metered

__all__ = ["SCRIPT", "Counters", "Meter", "Metered"]
