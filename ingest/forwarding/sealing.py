"""The headers of a project's destination as the database has them.

They hold secrets: encrypted with a key made of the pepper, which the database never sees. A dump of
it holds nothing to log in with.
"""

import base64
import hmac
from collections.abc import Mapping

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings


class Unreadable(Exception):
    """They were sealed under another pepper."""


def seal(headers: Mapping[str, str]) -> str:
    """What is kept of `headers`; nothing of none."""
    return _fernet().encrypt(msgspec.json.encode(headers)).decode() if headers else ""


def unseal(sealed: str) -> dict[str, str]:
    """The headers again. Raises Unreadable."""
    if not sealed:
        return {}
    try:
        return msgspec.json.decode(_fernet().decrypt(sealed.encode()), type=dict[str, str])
    except InvalidToken:
        raise Unreadable("The headers were kept under another pepper: set them again.") from None


def _fernet() -> Fernet:
    key = hmac.digest(settings.PEPPER, b"otlp-headers", "sha256")
    return Fernet(base64.urlsafe_b64encode(key))
