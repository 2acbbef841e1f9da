"""Spans and metrics of functions and of models' calls, told to a collector by OTLP over HTTP."""

from shared.otel.records import FunctionCall, ModelCall
from shared.otel.sending import Collector, Telemetry

__all__ = ["Collector", "FunctionCall", "ModelCall", "Telemetry"]
