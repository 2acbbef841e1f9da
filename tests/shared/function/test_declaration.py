"""A declaration that cannot work is refused where it is written."""

from __future__ import annotations

import pytest

from shared.errors import Fault
from shared.function import Function, Route, Scale
from shared.function.catalog import select


@pytest.mark.parametrize("wrong", [{"max": 0}, {"min": 3, "max": 2}, {"concurrency": 0}, {"min": 1}])
def test_an_impossible_scale_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Scale"):
        Scale(**wrong)  # type: ignore[arg-type]  # numbers only


@pytest.mark.parametrize("permission", ["", "documents", "Documents:read", "documents:", "*:*"])
def test_a_route_needs_a_permission(permission: str) -> None:
    with pytest.raises(ValueError, match="permission"):
        Function().get("/x", permission=permission)


@pytest.mark.parametrize(
    ("permission", "changes"),
    [("a:read", False), ("a:use", False), ("a:export", False), ("a:write", True), ("a:delete", True)],
)
def test_every_verb_but_read_use_and_export_is_a_change(permission: str, changes: bool) -> None:
    assert Route("POST", "/x", permission).changes is changes


def test_an_unknown_function_is_named_with_those_that_exist() -> None:
    with pytest.raises(Fault, match=r"no-such-function.*knowledge-search"):
        select(["no-such-function"])
