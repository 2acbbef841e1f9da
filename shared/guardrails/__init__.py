"""Guardrails that alert and never act: what is said to and by models is looked through beside the traffic."""

from shared.guardrails.rules import BUILT_IN, KINDS, Rule, phrases
from shared.guardrails.scanning import Finding, Scan, scan
from shared.guardrails.watch import Guardrails, Watched

__all__ = ["BUILT_IN", "KINDS", "Finding", "Guardrails", "Rule", "Scan", "Watched", "phrases", "scan"]
