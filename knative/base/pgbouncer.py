"""PgBouncer between the functions and PostgreSQL: many short connections of theirs, few of its own.

Transactions share connections: nothing of ours stays on a session (`shared/postgres/connections.py`).
Every role logs in with its own password: PgBouncer asks PostgreSQL for its SCRAM secret and never sees the password.
https://www.pgbouncer.org/config.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from knative import network
from knative.environment import Environment, PgBouncer
from knative.manifest import Manifest, cluster_host, labels, metadata
from knative.placement import Group
from knative.secrets import secret
from knative.services import SECURITY_CONTEXT, USER
from shared.host.pooler import ROLE, credentials_query

NAME = "pgbouncer"
FILES = "/etc/dcoder/pgbouncer"
SECRET = f"{NAME}-pod"
PURPOSE = b"the pooler's password"
CLIENTS_MAX = 2000
IDLE_S = 30
"""How long a connection to a tenant's database is kept that nobody uses."""
STOP_S = 60
"""It ends when its clients have gone, and functions close idle connections after seconds."""
CPU_PERCENT = 70


def password(root_key: bytes) -> str:
    """The pooler's own, the same wherever the deployment's keys are."""
    return hmac.new(root_key, PURPOSE, hashlib.sha256).hexdigest()


def configuration(environment: Environment, pooler: PgBouncer, postgres_url: str) -> str:
    """pgbouncer.ini for the server of that address. It holds no password."""
    server = urlsplit(postgres_url)
    control, place = server.path.lstrip("/"), f"host={server.hostname} port={server.port or 5432}"
    return "\n".join(
        [
            "[databases]",
            f"{control} = {place} pool_size={pooler.control_connections_max}",
            f"* = {place} pool_size={pooler.tenant_connections_max}",
            "[pgbouncer]",
            "listen_addr = *",
            f"listen_port = {pooler.port}",
            "unix_socket_dir =",
            "pool_mode = transaction",
            "auth_type = scram-sha-256",
            f"auth_file = {FILES}/users.txt",
            f"auth_user = {ROLE}",
            f"auth_dbname = {control}",
            f"auth_query = {credentials_query()}",
            f"max_client_conn = {CLIENTS_MAX}",
            f"server_idle_timeout = {IDLE_S}",
            "server_tls_sslmode = prefer",
            "log_connections = 0",
            "log_disconnections = 0",
            "",
        ]
    )


def users(own_password: str) -> str:
    return f'"{ROLE}" "{own_password}"\n'


def confidential(environment: Environment, root_key: bytes, postgres_url: str) -> tuple[Manifest, ...]:
    """The Secret with its two files; none where there is no PgBouncer."""
    pooler = environment.pgbouncer
    if pooler is None:
        return ()
    files = {"pgbouncer.ini": configuration(environment, pooler, postgres_url), "users.txt": users(password(root_key))}
    return (secret(SECRET, environment, {name: text.encode() for name, text in files.items()}),)


def manifests(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    pooler = environment.pgbouncer
    if pooler is None:
        return ()
    return (
        policy(everyone, environment, pooler),
        name_in_cluster(environment, pooler),
        deployment(environment, pooler),
        budget(environment),
        autoscaler(environment, pooler),
    )


def policy(everyone: tuple[Group, ...], environment: Environment, pooler: PgBouncer) -> Manifest:
    """Groups that were granted PostgreSQL reach it, and it reaches PostgreSQL."""
    granted = [one.name for one in everyone if "postgres" in one.grants]
    callers = {"matchExpressions": [{"key": "serving.knative.dev/service", "operator": "In", "values": granted}]}
    return network.policy(
        NAME,
        environment,
        {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": callers}], "ports": [network.tcp(pooler.port)]}],
            "egress": [network.names(), network.store("postgres", environment)],
        },
    )


def name_in_cluster(environment: Environment, pooler: PgBouncer) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(NAME, environment),
        "spec": {"selector": labels(NAME), "ports": [{"name": "postgres", "port": pooler.port}]},
    }


def deployment(environment: Environment, pooler: PgBouncer) -> Manifest:
    """How many there are is the autoscaler's business, so nothing is said of it here."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(NAME, environment),
        "spec": {
            "selector": {"matchLabels": labels(NAME)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels(NAME)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": STOP_S,
                    "securityContext": {"fsGroup": USER},
                    "containers": [container(pooler)],
                    "volumes": [{"name": "files", "secret": {"secretName": SECRET, "defaultMode": 0o440}}],
                },
            },
        },
    }


def container(pooler: PgBouncer) -> dict[str, Any]:  # Any: see Manifest
    amounts = {"cpu": f"{pooler.cpu_millicores}m", "memory": f"{pooler.memory_mib}Mi"}
    probe: Mapping[str, Any] = {"tcpSocket": {"port": pooler.port}}
    return {
        "name": NAME,
        "image": pooler.image,
        "command": ["pgbouncer", f"{FILES}/pgbouncer.ini"],
        "env": [],
        "ports": [{"name": "postgres", "containerPort": pooler.port}],
        "resources": {"requests": {**amounts, "cpu": f"{max(10, pooler.cpu_millicores // 10)}m"}, "limits": amounts},
        "readinessProbe": {**probe, "periodSeconds": 2, "timeoutSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "securityContext": SECURITY_CONTEXT,
        "volumeMounts": [{"name": "files", "mountPath": FILES, "readOnly": True}],
    }


def budget(environment: Environment) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(NAME, environment),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels(NAME)}},
    }


def autoscaler(environment: Environment, pooler: PgBouncer) -> Manifest:
    utilization = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(NAME, environment),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": pooler.instances_min,
            "maxReplicas": pooler.instances_max,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
        },
    }


def pooled_url(environment: Environment, postgres_url: str) -> str:
    """The address as functions get it: PgBouncer's, where there is one."""
    pooler = environment.pgbouncer
    if pooler is None:
        return postgres_url
    parts = urlsplit(postgres_url)
    place = f"{cluster_host(NAME, environment)}:{pooler.port}"
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{place}").geturl()
