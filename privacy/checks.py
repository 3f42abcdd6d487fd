"""Is a value, found in a text at a place, what it looks like? Pure.

A check is of one match, and of no more than a few bytes around it.
"""

import binascii
import ipaddress
import re
from collections.abc import Callable

Check = Callable[[bytes, bytes, int], bool]

_MARKER = re.compile(rb"\[[a-z]+(?::[0-9a-f]{16})?\]|(?:subject|session):[0-9a-f]{32}")
_OPENED, _CLOSED = re.compile(rb"\[[a-z]+:\Z"), re.compile(rb"[0-9a-f]{16}\]")
_BLANKS = frozenset(b"null none nil true false undefined".split())


def is_marker(value: bytes) -> bool:
    """Whether `value` is what stands in for something found."""
    return _MARKER.fullmatch(value) is not None


# Behind a number, what makes it a part of something longer: 1.2.3.4.5, 1.2.3.4-beta
_GOES_ON = re.compile(rb"[.]\w|[-+~][A-Za-z]")


def _before(text: bytes, start: int, length: int = 24) -> bytes:
    return text[max(0, start - length) : start]


def is_any(value: bytes, text: bytes, start: int) -> bool:
    return True


def is_told(value: bytes, text: bytes, start: int) -> bool:
    ours = is_marker(value) or (_OPENED.search(_before(text, start)) and _CLOSED.match(value))
    return not ours and value.lower() not in _BLANKS


_TOKEN = re.compile(rb"(?i)token[^a-z]*\Z")


def is_secret(value: bytes, text: bytes, start: int) -> bool:
    """What is called a token may be a parser's, which is a word."""
    if _TOKEN.search(_before(text, start)) and not (len(value) > 7 and has_digit(value, text, 0)):
        return False
    return is_told(value, text, start)


def has_digit(value: bytes, text: bytes, start: int) -> bool:
    return any(48 <= byte <= 57 for byte in value)


def is_userinfo(value: bytes, text: bytes, start: int) -> bool:
    return value != b"git" and not is_marker(value)


def is_login(value: bytes, text: bytes, start: int) -> bool:
    """Basic credentials are base64 of `name:password`."""
    try:
        return b":" in binascii.a2b_base64(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return False


_FILES = frozenset(
    b"png jpg jpeg gif svg webp ico bmp wav css js mjs cjs jsx ts tsx json html htm xml yml yaml"
    b" toml tar gz tgz whl jar dll exe dylib".split()
)
_VERSION = re.compile(rb"v?\d+\.\d")


def is_mailbox(value: bytes, text: bytes, start: int) -> bool:
    """Not icon@2x.png, not package@1.2.3-beta.rc, not the one user of every git server."""
    name, _, host = value.rpartition(b"@")
    ending = host.rpartition(b".")[2].lower()
    return name != b"git" and ending not in _FILES and not _VERSION.match(host)


# Firefox/1.2.3.4, Version=1.2.3.4, build 1.2.3.4
_VERSION_BEFORE = re.compile(
    rb"\b(?:[A-Z][a-z]\w*/|(?i:v|ver|version|rev|revision|build|release|firmware|driver)"
    rb"[\s\"'\\:=#(.]*)\Z"
)


def is_ipv4(value: bytes, text: bytes, start: int) -> bool:
    """An address that may lead to a person: no version or mask, and not everyone's own machine."""
    octets = [int(octet) for octet in value.split(b".") if octet == b"0" or octet[:1] != b"0"]
    return (
        not _GOES_ON.match(text, start + len(value))
        and len(octets) == 4
        and max(octets) < 256
        and octets[0] not in (0, 127)
        and octets[0] < 224
        and any(octets[1:])
        and not _VERSION_BEFORE.search(_before(text, start))
    )


def is_ipv6(value: bytes, text: bytes, start: int) -> bool:
    try:
        ipaddress.IPv6Address(value.decode())
    except ValueError:
        return False
    return True


def is_mac(value: bytes, text: bytes, start: int) -> bool:
    """Six pairs: no longer fingerprint, no date, no mask."""
    pairs = re.split(rb"[:-]", value.lower())
    date = b"-" in value and all(pair.isdigit() for pair in pairs)
    return len(pairs) == 6 and not date and set(pairs) not in ({b"00"}, {b"ff"})


# First and last prefix -> how many digits the cards have that an issuer has out.
_ISSUERS = {
    (4, 4): (13, 16),  # Visa
    (51, 55): (16,), (2221, 2720): (16,),  # Mastercard
    (34, 34): (15,), (37, 37): (15,),  # American Express
    (6011, 6011): (16,), (644, 659): (16,),  # Discover
    (300, 305): (14, 16), (3095, 3095): (14, 16), (36, 36): (14, 16), (38, 39): (14, 16),  # Diners
    (3528, 3589): (16,),  # JCB
    (62, 62): range(16, 20), (2200, 2204): range(16, 20),  # UnionPay, Mir
    (5018, 5018): range(13, 20), (5020, 5020): range(13, 20), (5038, 5038): range(13, 20),
    (5893, 5893): range(13, 20), (6304, 6304): range(13, 20),  # ... and others of Maestro
    (6759, 6763): range(13, 20),
}  # fmt: skip


def is_card_number(value: bytes, text: bytes, start: int) -> bool:
    whole = not _GOES_ON.match(text, start + len(value))
    return whole and is_card(re.sub(rb"\D", b"", value).decode())


def is_card(digits: str) -> bool:
    """Whether `digits` are a payment card's: an issuer's range and length, and Luhn's sum."""
    issued = any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths
        for (low, high), lengths in _ISSUERS.items()
    )
    if not issued:
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(doubled)) % 10 == 0


def is_dialled(value: bytes, text: bytes, start: int) -> bool:
    """An international number; a longer one where nothing sets its digits apart."""
    digits = sum(48 <= byte <= 57 for byte in value)
    return (10 if digits == len(value) - 1 else 8) <= digits <= 15


def is_called(value: bytes, text: bytes, start: int) -> bool:
    """A local number that is no part of a serial one."""
    return not re.match(rb"[.-]\d", text[start + len(value) : start + len(value) + 2])


_NOBODYS = frozenset(
    b"shared public default all guest root admin administrator user app appuser node runner"
    b" runneradmin vsts circleci travis jenkins ubuntu debian ec2-user bitnami vagrant pi vscode"
    b" codespace gitpod linuxbrew $user %username%".split()
) | {b"all users", b"default user"}
_WEB_PAGE = re.compile(rb"https?:/+[^/\s\0]*/home/+\Z")


def is_person(value: bytes, text: bytes, start: int) -> bool:
    """Whose home is not everybody's, a service's, or https://example.com/home/page."""
    name = value.lower()
    return (
        name not in _NOBODYS
        and name[:1] != b"."
        and not _WEB_PAGE.search(_before(text, start, 128))
    )
