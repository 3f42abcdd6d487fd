"""What stands in for what is found, and texts without their escapes. Pure."""

import re
from enum import StrEnum
from urllib.parse import unquote

from privacy.identifiers import IDS
from privacy.subjects import Pseudonyms


class Mode(StrEnum):
    """What becomes of what is found.

    A marker, [email]; a marker that is the same for the same value, [email:1f3a…]; or the field
    that holds it goes.
    """

    REDACT = "redact"
    HASH = "hash"
    DROP = "drop"


class Dropped(Exception):
    """What holds this has to go."""


class Marker:
    """Makes what stands in for what is found; without pseudonyms, one that tells but the kind."""

    def __init__(self, mode: Mode, pseudonyms: Pseudonyms | None) -> None:
        self._mode = mode
        self._pseudonyms = pseudonyms

    def __call__(self, kind: str, value: bytes) -> bytes:
        """`[email]`, `[email:1f3a…]` or Dropped; for an id, in every mode, that it is mentioned."""
        if self._pseudonyms is None:
            return b"[%b]" % kind.encode()
        if kind in IDS:
            hashed = self._pseudonyms.mention(kind, value.decode(errors="replace"))
            return f"{kind}:{hashed.hex()}".encode()
        if self._mode is Mode.DROP:
            raise Dropped
        if self._mode is Mode.REDACT:
            return b"[%b]" % kind.encode()
        digest = self._pseudonyms.digest(kind.encode() + b":" + _canonical(kind, value))
        return f"[{kind}:{digest[:8].hex()}]".encode()

    def undropped(self) -> "Marker":
        """For what can't be dropped."""
        return self if self._mode is not Mode.DROP else Marker(Mode.REDACT, self._pseudonyms)


def _canonical(kind: str, value: bytes) -> bytes:
    """The same for two spellings of one value."""
    if kind in ("card", "phone"):
        return re.sub(rb"\D", b"", value)
    return value.lower() if kind in ("email", "ip", "mac") else value


# --- Escapes --------------------------------------------------------------------------------------

# Rounds in which escapes within escapes are undone. What is escaped still is meant to be hidden.
ROUNDS = 4
_PERCENTS = re.compile(r"%(?:25)+(?=[0-9A-Fa-f]{2})")
_CODES = re.compile(r"\\+(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")
# Full-width forms of ASCII, and characters without a width.
_LOOKALIKES = dict(zip(range(0xFF01, 0xFF5F), range(0x21, 0x7F), strict=True)) | dict.fromkeys(
    (0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF)
)


def unescaped(text: str) -> str:
    """`text` with percent and JSON escapes undone, and without characters that only look alike.

    Not undone: HTML entities, base64, and compatibility forms other than the full-width ones.
    """
    if "%" in text:
        text = unquote(_PERCENTS.sub("%", text), errors="replace")
    if "\\" in text:
        text = _CODES.sub(lambda code: chr(int(code[1] or code[2], 16)), text)
    if not text.isascii():
        text = text.translate(_LOOKALIKES)
        # Joins the halves of characters; half a character can't be stored.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")  # nor can NUL
