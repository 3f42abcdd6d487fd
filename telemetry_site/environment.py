"""Settings from the environment: each reader fails with a sentence that names the variable."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


def env_str(name: str, default: str = "") -> str:
    """The variable's text without surrounding blanks; `default` where it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, default: bool = False) -> bool:
    """True for 1/true/yes/on, False for 0/false/no/off."""
    text = env_str(name).lower()
    if not text:
        return default
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0 (or true/false, yes/no), not {text!r}.")


def env_int(name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    return _number(name, default, int, "a whole number", least, most)


def env_float(name: str, default: float, *, least: float = 0, most: float | None = None) -> float:
    """A number from `least` to `most`."""
    return _number(name, default, float, "a number", least, most)


def env_list(name: str, default: Sequence[str] = ()) -> list[str]:
    """Comma-separated words, blanks around them dropped."""
    text = env_str(name)
    return [word.strip() for word in text.split(",") if word.strip()] if text else list(default)


def _number(
    name: str, default: T, parse: Callable[[str], T], what: str, least: float, most: float | None
) -> T:
    text = env_str(name)
    if not text:
        return default
    bounds = f"from {least:g} to {most:g}" if most is not None else f"of at least {least:g}"
    complaint = ImproperlyConfigured(f"{name} must be {what} {bounds}, not {text!r}.")
    try:
        number = parse(text)
    except ValueError:
        raise complaint from None
    if not least <= number <= (most if most is not None else float("inf")):  # type: ignore[operator]
        raise complaint
    return number
