"""A hash of what a revision reads: it changes with the values that the group reads, and tells none of them."""

from __future__ import annotations

import base64

import pytest

from knative.environment import load
from knative.manifest import Manifest
from knative.render import render
from knative.schemas import faults
from knative.stamps import ANNOTATION, stamped
from shared.function.catalog import find

ALONE = load("local").model_copy(update={"placement": "alone", "translate_image": "dev.local/dcoder-translate:0.1.0"})
RENDERED = render(find(), ALONE)
VALUES = {
    "dcoder-keys": {f"{name}.key": base64.b64encode(name.encode() * 6).decode() for name in ("root", "audit")},
    "dcoder-postgres": {"url": "cG9zdGdyZXM="},
    "dcoder-objects": {"access-key": "YQ==", "secret-key": "Yg=="},
}


def stamps(manifests: tuple[Manifest, ...]) -> dict[str, str]:
    templates = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["annotations"]
        for one in manifests
        if one["kind"] == "Service" and one["apiVersion"].startswith("serving")
    }
    return {name: annotations[ANNOTATION] for name, annotations in templates.items() if ANNOTATION in annotations}


def changed_by(secret: str, key: str) -> set[str]:
    other = {**VALUES, secret: {**VALUES[secret], key: "b3RoZXI="}}
    before, after = (stamps(stamped(RENDERED, values, ALONE)) for values in (VALUES, other))
    return {name for name in before if before[name] != after[name]}


def test_the_same_values_give_the_same_manifests_and_they_keep_the_schemas() -> None:
    once = stamped(RENDERED, VALUES, ALONE)

    assert once == stamped(RENDERED, dict(reversed(VALUES.items())), ALONE)
    assert len(stamps(once)) == len(find())
    assert faults(once) == []


@pytest.mark.parametrize(
    ("secret", "key", "reader", "other"),
    [
        ("dcoder-keys", "audit.key", "governance-audit", "knowledge-documents"),
        ("dcoder-objects", "secret-key", "knowledge-documents", "integrations-webhooks"),
    ],
)
def test_only_the_groups_that_read_a_value_change_with_it(secret: str, key: str, reader: str, other: str) -> None:
    changed = changed_by(secret, key)

    assert reader in changed
    assert other not in changed


def test_the_hash_is_keyed_so_that_a_guessed_value_cannot_be_checked_without_the_root_key() -> None:
    assert changed_by("dcoder-keys", "root.key") == set(stamps(stamped(RENDERED, VALUES, ALONE)))
    assert stamped(RENDERED, {"dcoder-postgres": VALUES["dcoder-postgres"]}, ALONE) == RENDERED
