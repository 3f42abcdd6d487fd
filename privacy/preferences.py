"""How long a client would wait, as its `Prefer` header says (RFC 7240). Pure."""

import re
from dataclasses import dataclass
from urllib.request import parse_http_list

# How long it is waited for who says nothing, and for anybody.
WAIT_SECONDS = 2
MOST_SECONDS = 10

_SECONDS = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Preferences:
    """Of all preferences the two that are heeded; `wait` is None where none is named."""

    respond_async: bool = False
    wait: int | None = None

    @property
    def seconds(self) -> int:
        """How long an answer may take."""
        if self.wait is not None:
            return min(self.wait, MOST_SECONDS)
        return 0 if self.respond_async else WAIT_SECONDS

    def applied(self, *, later: bool) -> str:
        """What `Preference-Applied` says of an answer, which comes before what was asked for is
        done where it is `later`; empty where no preference has to do with it."""
        told = ["respond-async"] if self.respond_async and later else []
        return ", ".join(told + ([f"wait={self.seconds}"] if self.wait is not None else []))


def parse(header: str) -> Preferences:
    """What a `Prefer` header says; several come joined by commas. What can't be read, and what is
    said a second time, is passed over."""
    said: dict[str, str] = {}
    for preference in parse_http_list(header):
        # Behind a semicolon there are parameters, of which ours have none.
        name, _, value = preference.partition(";")[0].partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = said.get("wait", "")
    return Preferences(
        respond_async="respond-async" in said,
        wait=int(wait) if _SECONDS.fullmatch(wait) else None,
    )
