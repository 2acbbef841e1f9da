"""Events of the platform: CloudEvents 1.0, object notifications, and what carries them: NATS JetStream, a Broker.

Importing this loads the standard library only; what carries events is opened at first use.
"""

from shared.events.cloudevent import CloudEvent
from shared.events.http import from_http, to_http
from shared.events.objects import ObjectEvent
from shared.events.publishing import Events
from shared.events.relay import Relay

__all__ = ["CloudEvent", "Events", "ObjectEvent", "Relay", "from_http", "to_http"]
