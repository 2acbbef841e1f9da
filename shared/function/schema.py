"""What routes take as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A body, or what is nested in one. A member that it does not have is refused (422 `invalid`): whoever wrote it
    means something by it."""

    model_config = ConfigDict(extra="forbid")
