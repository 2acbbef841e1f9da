"""Which functions share a Knative Service, and what the Service needs because of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from knative.environment import Environment, Placement
from shared.errors import Fault
from shared.function.catalog import Deployable
from shared.function.declaration import Scale
from shared.function.injection import RUNTIME_GRANTS, grants_of

FIRST_IMAGE = "functions"
TIMEOUT_S_MAX = 600
"""Knative's `max-revision-timeout-seconds`."""


@dataclass(frozen=True)
class Group:
    """The functions of one Service, in the order of their names."""

    name: str
    members: tuple[Deployable, ...]
    instances_max: int

    @property
    def scale(self) -> Scale:
        """The strictest member's concurrency, the largest minimum, and the members' maxima added up, to a bound."""
        scales = [member.function.scale for member in self.members]
        smallest = max(scale.min for scale in scales)
        return Scale(
            min=smallest,
            max=max(smallest, 1, min(self.instances_max, sum(scale.max for scale in scales))),
            concurrency=min(scale.concurrency for scale in scales),
            reason="; ".join(
                f"{one.name}: {one.function.scale.reason}" for one in self.members if one.function.scale.reason
            ),
        )

    @property
    def image(self) -> str:
        """Which image: it is the same for all members."""
        return self.members[0].function.image

    @property
    def timeout_s(self) -> int:
        return max(member.function.timeout_s for member in self.members)

    @property
    def grants(self) -> frozenset[str]:
        return RUNTIME_GRANTS.union(*(grants_of(member.function) for member in self.members))


def group_name(deployable: Deployable, placement: Placement) -> str:
    if placement == "alone" or deployable.function.image != FIRST_IMAGE:
        return deployable.name
    return deployable.capability if placement == "capability" else "platform"


def groups(deployables: Iterable[Deployable], environment: Environment) -> tuple[Group, ...]:
    """Every function whose image the environment names in exactly one group, those of another image than the first each
    in its own. Raises `Fault` for a function that Knative cannot run."""
    members: dict[str, list[Deployable]] = {}
    for one in sorted(deployables, key=lambda deployable: deployable.name):
        check(one)
        if environment.image_of(one.function.image) is None:
            continue
        members.setdefault(group_name(one, environment.placement), []).append(one)
    return tuple(Group(name, tuple(members[name]), environment.sizes.instances_max) for name in sorted(members))


def check(deployable: Deployable) -> None:
    limit = deployable.function.timeout_s
    if not 1 <= limit <= TIMEOUT_S_MAX:
        path = deployable.module.replace(".", "/") + ".py"
        raise Fault(f"{path}: timeout_s={limit}: Knative allows 1 to {TIMEOUT_S_MAX} s (max-revision-timeout-seconds)")
