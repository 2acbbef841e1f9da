"""The pods' passwords and addresses, derived from what DCODER_HOME keeps: the same at every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from knative.base.servers import jetstream, nats_port, seaweed, valkey
from knative.environment import Environment
from knative.manifest import Manifest, cluster_host
from knative.secrets import secret
from shared.host.home import StoreSecrets
from shared.host.stack import CONTROL


def manifests(environment: Environment, kept: StoreSecrets) -> tuple[Manifest, ...]:
    """The Secret of each store's pod."""
    files: Mapping[str, Callable[[], Mapping[str, str]]] = {
        "postgres": lambda: {"password": kept.postgres},
        "redis": lambda: {"valkey.conf": valkey(environment, kept).configuration()},
        "objects": lambda: seaweed(environment, kept.objects_access_key, kept.objects_secret_key).configuration(),
        "nats": lambda: {"nats.json": jetstream(environment, kept).configuration()},
    }
    return tuple(
        secret(f"{name}-pod", environment, {file: text.encode() for file, text in files[name]().items()})
        for name in environment.pods
    )


def settings(environment: Environment, kept: StoreSecrets) -> dict[str, str]:
    """`DCODER_*` of the stores that are pods, as functions see them."""
    postgres, redis = (cluster_host(name, environment) for name in ("postgres", "redis"))
    told = {
        "postgres": {"DCODER_POSTGRES_URL": platform_url(environment, kept, postgres, environment.postgres.port)},
        "redis": {"DCODER_REDIS_URL": f"redis://:{kept.redis}@{redis}:{environment.redis.port}/0"},
        "objects": {
            "DCODER_OBJECTS_ACCESS_KEY": kept.objects_access_key,
            "DCODER_OBJECTS_SECRET_KEY": kept.objects_secret_key,
        },
    }
    return {variable: value for name in environment.pods for variable, value in told.get(name, {}).items()}


def nats_url(environment: Environment, kept: StoreSecrets) -> str:
    """As the Broker's parts are told it; functions do not speak to NATS."""
    return f"nats://{kept.nats}@{cluster_host('nats', environment)}:{nats_port(environment)}"


def platform_url(environment: Environment, kept: StoreSecrets, host: str, port: int) -> str:
    return f"postgresql://{CONTROL}:{kept.control}@{host}:{port}/{CONTROL}"


def administrator_url(kept: StoreSecrets, host: str, port: int) -> str:
    return f"postgresql://postgres:{kept.postgres}@{host}:{port}/postgres"
