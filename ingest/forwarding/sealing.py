"""The headers of a project's destination as the database has them.

They hold secrets: encrypted with a key made of the pepper, which the database never sees. A dump of
it holds nothing to log in with.
"""

import binascii
import hmac
from collections.abc import Mapping

import msgspec
from django.conf import settings
from nacl.encoding import URLSafeBase64Encoder
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox


class Unreadable(Exception):
    """They were sealed under another pepper."""


def seal(headers: Mapping[str, str]) -> str:
    """What is kept of `headers`; nothing of none."""
    if not headers:
        return ""
    return _box().encrypt(msgspec.json.encode(headers), encoder=URLSafeBase64Encoder).decode()


def unseal(sealed: str) -> dict[str, str]:
    """The headers again. Raises Unreadable."""
    if not sealed:
        return {}
    try:
        opened = _box().decrypt(sealed.encode(), encoder=URLSafeBase64Encoder)
    except (CryptoError, binascii.Error):
        raise Unreadable("The headers were kept under another pepper: set them again.") from None
    return msgspec.json.decode(opened, type=dict[str, str])


def _box() -> SecretBox:
    return SecretBox(hmac.digest(settings.PEPPER, b"otlp-headers", "sha256"))
