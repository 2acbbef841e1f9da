"""The Secrets of an environment, from key files and addresses on the operator's machine."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path

from knative.environment import Environment
from knative.manifest import Manifest, metadata
from shared.errors import Fault

TLS_FILES = ("DCODER_TLS_CERTIFICATE_FILE", "DCODER_TLS_KEY_FILE")
"""Variables that name files: the chain of certificates, and its key."""
CERTIFICATE_LABEL = "networking.internal.knative.dev/certificate-uid"
KEY_NAMES = ("root", "tokens", "audit", "pepper", "hooks")


def manifests(environment: Environment, folder: Path, settings: Mapping[str, str]) -> tuple[Manifest, ...]:
    """One Secret for the keys and one per store. Raises `Fault` naming what is missing, never its value."""
    servers = environment.postgres_servers
    further = (
        [secret(servers.secret, environment, {"servers": setting(settings, "DCODER_POSTGRES_SERVERS")})]
        if servers
        else []
    )
    collector = environment.collector.secret if environment.collector else None
    if collector:
        further.append(secret(collector, environment, {"headers": setting(settings, "DCODER_OTLP_HEADERS")}))
    return (
        *further,
        *certificate(environment, settings),
        secret(environment.keys_secret, environment, {f"{name}.key": key(folder, name) for name in KEY_NAMES}),
        secret(environment.postgres.secret, environment, {"url": setting(settings, "DCODER_POSTGRES_URL")}),
        secret(environment.redis.secret, environment, {"url": setting(settings, "DCODER_REDIS_URL")}),
        secret(
            environment.objects.secret,
            environment,
            {
                "access-key": setting(settings, "DCODER_OBJECTS_ACCESS_KEY"),
                "secret-key": setting(settings, "DCODER_OBJECTS_SECRET_KEY"),
            },
        ),
    )


def certificate(environment: Environment, settings: Mapping[str, str]) -> list[Manifest]:
    """The certificate of the platform's two names, from files; none where it is in the namespace already.

    Raises `Fault` when the key is of another certificate.
    """
    paths = [settings.get(name, "") for name in TLS_FILES]
    if environment.tls_secret is None or not any(paths):
        return []
    try:
        chain, key = (Path(path).read_bytes() for path in paths)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)
    except (OSError, ssl.SSLError) as failure:
        raise Fault(f"{' and '.join(TLS_FILES)} are no certificate and its key: {failure}") from failure
    # Kourier may be told to look at labelled Secrets only.
    made = secret(environment.tls_secret, environment, {"tls.crt": chain, "tls.key": key})
    labels = {**made["metadata"]["labels"], CERTIFICATE_LABEL: environment.tls_secret}
    return [{**made, "type": "kubernetes.io/tls", "metadata": {**made["metadata"], "labels": labels}}]


def names(environment: Environment) -> list[str]:
    stores = (environment.postgres, environment.postgres_servers, environment.redis, environment.objects)
    own = [f"{name}-pod" for name in (*environment.pods, *(["pgbouncer"] if environment.pgbouncer else ()))]
    named = [environment.tls_secret, environment.collector.secret if environment.collector else None]
    more = [name for name in named if name]
    return [environment.keys_secret, *(one.secret for one in stores if one is not None), *own, *more]


def key(folder: Path, name: str) -> bytes:
    path = folder / f"{name}.key"
    try:
        found = path.read_bytes()
    except OSError as failure:
        raise Fault(f"cannot read the key file {path}: {failure.strerror}") from failure
    if len(found) != 32:
        raise Fault(f"{path} holds {len(found)} bytes; a key has 32")
    return found


def setting(settings: Mapping[str, str], name: str) -> bytes:
    if not settings.get(name):
        raise Fault(f"{name} is not set, and no host runs in DCODER_HOME that would tell")
    return settings[name].encode()


def secret(name: str, environment: Environment, data: Mapping[str, bytes]) -> Manifest:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(name, environment),
        "type": "Opaque",
        "data": encoded,
    }
