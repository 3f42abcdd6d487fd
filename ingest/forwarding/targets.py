"""Where requests go."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Target:
    """Where one signal goes. What may be secret isn't shown."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    is_trusted: bool  # the instance's own setting: any address may be reached
