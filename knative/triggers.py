"""Broker, one Trigger per function and subscription, and the one tick a minute."""

from __future__ import annotations

import re
from typing import Any

from knative import jetstream
from knative.environment import Environment
from knative.manifest import BROKER, Manifest, metadata, service_reference
from knative.placement import Group
from knative.routes import group_of
from shared.errors import Fault
from shared.events.dead_letters import BROKER_ATTEMPTS_MAX
from shared.events.dead_letters import PATH as DEAD_LETTERS_PATH
from shared.events.subjects import REDRIVE_FUNCTION, SCHEDULE_DUE
from shared.function.catalog import Deployable
from shared.function.declaration import DeadLettered, DomainEvent, Every, Minute, ObjectCreated, ObjectRemoved, Route
from shared.host.platform import SCHEDULES
from shared.ids import PLATFORM

DEAD_LETTERS = "governance-events"
RETRIES = BROKER_ATTEMPTS_MAX - 1
"""Doubled from 0.2 s they stretch over about seven minutes."""
FIRST_DELAY = "PT0.2S"
NAME_MAX = 63
ASYNCHRONOUS = {"messaging.knative.dev/async-handler": "true"}
"""Only an in-memory channel reads it. Else it delivers while the publisher waits, with every retry of every Trigger."""


def manifests(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    subscribed = [
        trigger(member, label, filters, everyone, environment)
        for one in everyone
        for member in one.members
        for label, filters in subscriptions(member)
    ]
    ticks = (
        [ping_source(everyone, environment)] if any(m.name == SCHEDULES for g in everyone for m in g.members) else []
    )
    return broker(everyone, environment), *subscribed, *ticks


def broker(everyone: tuple[Group, ...], environment: Environment) -> Manifest:
    kept = environment.broker.jetstream
    own = jetstream.notes(kept) if kept is not None else ASYNCHRONOUS
    notes = {"eventing.knative.dev/broker.class": environment.broker.kind, **own}
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": metadata(BROKER, environment, notes=notes),
        "spec": {"delivery": delivery("unknown", everyone, environment, timeout_s=30)},
    }


def delivery(
    function: str, everyone: tuple[Group, ...], environment: Environment, *, timeout_s: int
) -> dict[str, Any]:  # Any: see Manifest
    """All of it on each Trigger: the JetStream broker reads no delivery of the Broker's."""
    sink = {
        "deadLetterSink": {
            "ref": service_reference(group_of(DEAD_LETTERS, everyone).name, environment),
            "uri": DEAD_LETTERS_PATH + function,
        }
    }
    return {
        "retry": RETRIES,
        "backoffPolicy": "exponential",
        "backoffDelay": FIRST_DELAY,
        "timeout": f"PT{timeout_s}S",
        **sink,
    }


def subscriptions(deployable: Deployable) -> list[tuple[str, list[dict[str, Any]]]]:  # Any: see Manifest
    """What the function listens to, once each, and its re-driven events."""
    triggers = [operation.trigger for operation in deployable.function.operations]
    wanted = dict(
        subscription(deployable.name, one) for one in triggers if not isinstance(one, Route | Minute | DeadLettered)
    )
    # A re-driven event is for one function only, whatever else its type matches.
    first = {label: [*match, {"cesql": f"NOT EXISTS {REDRIVE_FUNCTION}"}] for label, match in sorted(wanted.items())}
    redriven = {"redriven": [{"exact": {REDRIVE_FUNCTION: deployable.name}}]} if first else {}
    return [*first.items(), *redriven.items()]


def subscription(
    function: str,
    trigger: DomainEvent | ObjectCreated | ObjectRemoved | Every,
) -> tuple[str, list[dict[str, Any]]]:  # Any: see Manifest
    match trigger:
        case DomainEvent(type=type_):
            return re.sub(r"[^a-z0-9]+", "-", type_.lower()).strip("-"), [{"exact": {"type": type_}}]
        case ObjectCreated():
            return "object-created", [{"prefix": {"type": "com.amazonaws.s3.ObjectCreated"}}]
        case ObjectRemoved():
            return "object-removed", [{"prefix": {"type": "com.amazonaws.s3.ObjectRemoved"}}]
        case Every():
            # The subject is the schedule's name: `<function>.<operation>`.
            return "schedule-due", [{"exact": {"type": SCHEDULE_DUE}}, {"prefix": {"subject": f"{function}."}}]


def trigger(
    member: Deployable,
    label: str,
    filters: list[dict[str, Any]],  # Any: see Manifest
    everyone: tuple[Group, ...],
    environment: Environment,
) -> Manifest:
    name = f"{member.name}-{label}"
    if len(name) > NAME_MAX:
        raise Fault(f"{member.module.replace('.', '/')}.py: the Trigger's name {name!r} is over {NAME_MAX} characters")
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": metadata(name, environment, extra={"dcoder.dev/function": member.name}),
        "spec": {
            "broker": BROKER,
            "filters": filters,
            "subscriber": {
                "ref": service_reference(group_of(member.name, everyone).name, environment),
                "uri": f"/events/{member.name}",
            },
            "delivery": delivery(member.name, everyone, environment, timeout_s=member.function.timeout_s),
        },
    }


def ping_source(everyone: tuple[Group, ...], environment: Environment) -> Manifest:
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": metadata("schedules-tick", environment),
        "spec": {
            "schedule": "* * * * *",
            "contentType": "application/json",
            "data": "{}",
            # Ours are of a tenant; a token it cannot bear (decision 10).
            "ceOverrides": {"extensions": {"tenant": PLATFORM}},
            "sink": {
                "ref": service_reference(group_of(SCHEDULES, everyone).name, environment),
                "uri": f"/events/{SCHEDULES}",
            },
        },
    }
