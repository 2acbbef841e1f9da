"""Where on the stream an event goes, and what a function's consumer listens to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from shared.events.cloudevent import CloudEvent
from shared.function.declaration import DomainEvent, Every, ObjectCreated, ObjectRemoved, Trigger

ROOT = "events"
SCHEDULE_DUE = "dcoder.schedule.due"
MINUTE_PASSED = "dev.knative.sources.ping"
"""What a PingSource sends, without a token."""
REDRIVE = "dcoder.redrive"
REDRIVE_FUNCTION = "dcoderredrive"
"""Extension of a re-driven event: the one function that it is for."""
REDRIVE_ID = "dcoderredriveid"
"""Extension of a re-driven event: makes its message another one than the first, which the stream may remember."""
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def tokens(type_: str) -> str:
    """An event type as NATS tokens: `:` parts tokens as `.` does, what NATS reserves becomes `_`."""
    return ".".join(UNSAFE.sub("_", token) or "_" for token in re.split(r"[.:]", type_))


def subject_of(event: CloudEvent) -> str:
    """`events.<tenant>.<type>`; ticks and re-driven events end with the function that they are for."""
    if function := event.extensions.get(REDRIVE_FUNCTION):
        return f"{ROOT}.{event.tenant}.{REDRIVE}.{tokens(function)}"
    subject = f"{ROOT}.{event.tenant}.{tokens(event.type)}"
    if event.type == SCHEDULE_DUE and isinstance(event.data, dict):
        return f"{subject}.{tokens(str(event.data.get('function', '')))}"
    return subject


def message_id(event: CloudEvent) -> str:
    """What the stream deduplicates on: the event's id, and for a re-driven event its re-drive too."""
    again = event.extensions.get(REDRIVE_ID, "")
    return f"{event.id}/{again}" if again else event.id


def as_sent(event: CloudEvent) -> CloudEvent:
    """The event as a Broker is given it: one on JetStream drops what has an id that it has lately seen."""
    return replace(event, id=message_id(event))


def as_signed(event: CloudEvent) -> CloudEvent:
    """What `as_sent` was given: a function knows an event, re-driven or not, by one id."""
    again = event.extensions.get(REDRIVE_ID, "")
    return replace(event, id=event.id.removesuffix(f"/{again}")) if again else event


def filters(function: str, triggers: Iterable[Trigger]) -> list[str]:
    """The subjects that a function's triggers ask for, and its re-driven events; empty when it takes no events."""
    wanted = {subject for trigger in triggers if (subject := filter_of(function, trigger))}
    return sorted({*wanted, f"{ROOT}.*.{REDRIVE}.{tokens(function)}"}) if wanted else []


def filter_of(function: str, trigger: Trigger) -> str:
    if isinstance(trigger, DomainEvent):
        return f"{ROOT}.*.{tokens(trigger.type)}"
    if isinstance(trigger, ObjectCreated):
        return f"{ROOT}.*.com.amazonaws.s3.ObjectCreated.>"
    if isinstance(trigger, ObjectRemoved):
        return f"{ROOT}.*.com.amazonaws.s3.ObjectRemoved.>"
    if isinstance(trigger, Every):
        return f"{ROOT}.*.{SCHEDULE_DUE}.{tokens(function)}"
    return ""
