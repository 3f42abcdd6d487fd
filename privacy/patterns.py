"""What personal data and secrets look like, in text and in the names of keys. Pure.

All is matched by RE2, in time linear in the text; what needs more than a pattern is a check of one
match. Texts are UTF-8 of which any byte above 0x7F counts as a letter: addresses in all scripts are
found, and the automata stay small.
"""

import binascii
import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

Check = Callable[[bytes, bytes, int], bool]


def _options(megabytes: int) -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = megabytes * 2**20
    return options


def _compile(pattern: str) -> Any:
    return re2.compile(pattern.encode(), _options(8))


def _set(patterns: Iterable[str]) -> Any:
    """All of them as one automaton, which says which of them match.

    It has room for more states than hostile text can make it need: it can't do without.
    """
    matcher = re2.Set.SearchSet(_options(64))
    for pattern in patterns:
        matcher.Add(pattern.encode())
    matcher.Compile()
    return matcher


# --- The names of keys ----------------------------------------------------------------------------

# Kind -> how a key's name ends whose value is of that kind, whatever it looks like. A space stands
# for any separator or none. Names that as often hold something harmless aren't here: key, user,
# login, host, address, mobile, pin, uid, latitude.
_NAMES = {
    "secret": "password, passwords, passwd, passphrase, passcode, pwd, secret, api key, access key,"
    " secret key, private key, signing key, encryption key, account key, session key, license key,"
    " licence key, token, access token, api token, auth token, csrf token, device token, id token,"
    " push token, refresh token, session token, authorization, credential, credentials, cookie,"
    " cookies, connection string, security answer, jwt, otp, totp",
    "card": "credit card, debit card, card number, cc number, security code, cvv, cvc",
    "account": "iban, account number, bank account, routing number",
    "identity": "ssn, social security, social security number, national id, passport,"
    " passport number, tax id, driver license, drivers license, driving licence",
    "email": "email, emails, e mail, user email, email address, mail address",
    "phone": "phone, phones, phone number, phone numbers, telephone, telephone number,"
    " mobile number, fax number, msisdn",
    "ip": "ip, ip address, ip addresses, ip addr, client ip, remote ip, user ip, client address,"
    " remote address, remote addr, peer address, forwarded for",
    "mac": "mac address, mac addr",
    "name": "first name, last name, full name, given name, family name, middle name, maiden name,"
    " real name, surname, user name, nick name, customer name, contact name",
    "address": "street, street address, home address, postal address, mailing address,"
    " billing address, shipping address, delivery address, address line",
    "birth": "date of birth, birth date, birth day, dob",
}
# A control character of JSON text, or of JSON within a string.
_CONTROL = r"\\[bfnrt]|\\u00[01][0-9a-f]"


def _spelt(names: str) -> str:
    """A pattern of what ends with one of `names`, in any case.

    A short name must be a word: user_phone and userPhone, but not microphone, nor iPhone.
    """
    spellings = []
    for name in names.split(", "):
        spelling = name.replace(" ", "[_. -]?")
        if len(name) > 6:
            spellings.append(f"(?i:{spelling})")
        else:
            spellings.append(rf"(?:\A|[^A-Za-z]|{_CONTROL})(?i:{spelling})")
            spellings.append(f"[a-z]{{2}}{spelling[0].upper()}(?i:{spelling[1:]})")
    return f"(?:{'|'.join(spellings)})[0-9_]*"


_USER_ID = r"(?i:user[_. -]?ids?)[0-9_]*"
_SESSION_ID = r"(?i:sess(?:ion)?[_. -]?ids?)[0-9_]*"
_SPELT = {"subject": _USER_ID, "session": _SESSION_ID} | {
    kind: _spelt(names) for kind, names in _NAMES.items()
}
_KINDS = tuple(_SPELT)
_KEYS = _set(rf"{name}\z" for name in _SPELT.values())
# A version may look like an address; a machine's address is no person's.
_UNADDRESSED = _compile(
    r"(?i:version|build|release|firmware|(?:\A|[^a-z])(?:node|server))|[a-z](?:Node|Server)"
)
_ADDRESSES = frozenset({"ip", "mac"})


class Key(NamedTuple):
    """What a key's name says.

    `kind` is its value's, None where the name doesn't tell; `exempt` are kinds that aren't looked
    for in it; `plain` says that there is nothing in the name itself.
    """

    kind: str | None = None
    exempt: frozenset[str] = frozenset()
    plain: bool = True


@lru_cache(4096)
def about(key: str) -> Key:
    """What a key's name says; kept for those seen last, as most events have the same ones."""
    name = key.encode(errors="surrogatepass")
    exempt = _ADDRESSES if _UNADDRESSED.search(name) else frozenset()
    kinds = [_KINDS[index] for index in sorted(_KEYS.Match(name) or ())]
    return Key(next((kind for kind in kinds if kind not in exempt), None), exempt, not hits(name))


# --- Checks: is a value, found in a text at a place, what it looks like? --------------------------

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


def _is_any(value: bytes, text: bytes, start: int) -> bool:
    return True


def _is_told(value: bytes, text: bytes, start: int) -> bool:
    ours = is_marker(value) or (_OPENED.search(_before(text, start)) and _CLOSED.match(value))
    return not ours and value.lower() not in _BLANKS


_TOKEN = re.compile(rb"(?i)token[^a-z]*\Z")


def _is_secret(value: bytes, text: bytes, start: int) -> bool:
    """What is called a token may be a parser's, which is a word."""
    if _TOKEN.search(_before(text, start)) and not (len(value) > 7 and _has_digit(value, text, 0)):
        return False
    return _is_told(value, text, start)


def _has_digit(value: bytes, text: bytes, start: int) -> bool:
    return any(48 <= byte <= 57 for byte in value)


def _is_userinfo(value: bytes, text: bytes, start: int) -> bool:
    return value != b"git" and not is_marker(value)


def _is_login(value: bytes, text: bytes, start: int) -> bool:
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


def _is_mailbox(value: bytes, text: bytes, start: int) -> bool:
    """Not icon@2x.png, not package@1.2.3-beta.rc, not the one user of every git server."""
    name, _, host = value.rpartition(b"@")
    ending = host.rpartition(b".")[2].lower()
    return name != b"git" and ending not in _FILES and not _VERSION.match(host)


# Firefox/1.2.3.4, Version=1.2.3.4, build 1.2.3.4
_VERSION_BEFORE = re.compile(
    rb"\b(?:[A-Z][a-z]\w*/|(?i:v|ver|version|rev|revision|build|release|firmware|driver)"
    rb"[\s\"'\\:=#(.]*)\Z"
)


def _is_ipv4(value: bytes, text: bytes, start: int) -> bool:
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


def _is_ipv6(value: bytes, text: bytes, start: int) -> bool:
    try:
        ipaddress.IPv6Address(value.decode())
    except ValueError:
        return False
    return True


def _is_mac(value: bytes, text: bytes, start: int) -> bool:
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


def _is_card(value: bytes, text: bytes, start: int) -> bool:
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


def _is_dialled(value: bytes, text: bytes, start: int) -> bool:
    """An international number; a longer one where nothing sets its digits apart."""
    digits = sum(48 <= byte <= 57 for byte in value)
    return (10 if digits == len(value) - 1 else 8) <= digits <= 15


def _is_called(value: bytes, text: bytes, start: int) -> bool:
    """A local number that is no part of a serial one."""
    return not re.match(rb"[.-]\d", text[start + len(value) : start + len(value) + 2])


_NOBODYS = frozenset(
    b"shared public default all guest root admin administrator user app appuser node runner"
    b" runneradmin vsts circleci travis jenkins ubuntu debian ec2-user bitnami vagrant pi vscode"
    b" codespace gitpod linuxbrew $user %username%".split()
) | {b"all users", b"default user"}
_WEB_PAGE = re.compile(rb"https?:/+[^/\s\0]*/home/+\Z")


def _is_person(value: bytes, text: bytes, start: int) -> bool:
    """Whose home is not everybody's, a service's, or https://example.com/home/page."""
    name = value.lower()
    return (
        name not in _NOBODYS
        and name[:1] != b"."
        and not _WEB_PAGE.search(_before(text, start, 128))
    )


# --- The rules ------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """How one kind of personal data looks.

    The trigger occurs wherever a form matches, and in the JSON text of a string in which one does:
    it is what whole batches are scanned for. Group 1 of a form is what goes, if the check agrees;
    if not, the search goes on behind the form's last group.
    """

    kind: str
    trigger: str
    forms: tuple[Any, ...]
    check: Check


def _rule(kind: str, trigger: str, *forms: str, check: Check = _is_any) -> Rule:
    return Rule(kind, trigger, tuple(map(_compile, forms)), check)


# Before what is no part of something longer.
_BEFORE = rf"(?:\A|[^0-9A-Za-z_.]|{_CONTROL})"
# Between a name and its value, in JSON, in a query, in prose; and the value.
_SPACE = r"(?:\s|\\+[fnrt])*"
_IS = rf"(?:[\"'\\]+\]?)?{_SPACE}(?:=>|[:=])"
_QUOTED = rf"{_SPACE}\\*[\"']([^\"'\\\x00-\x1f]+)"
_BARE = rf"{_SPACE}((?i:(?:bearer|basic|digest|token) +)?[^\"'\\&,;<>(){{}}\x00-\x20]+)"


def _pair(kind: str, check: Check) -> Rule:
    """The rule of what follows a name, in text."""
    name = _SPELT[kind] + _IS
    return _rule(kind, name, name + _QUOTED, name + _BARE, check=check)


_CODE = "[0-9A-Za-z_-]"
_API_KEY = (
    rf"(?:[rs]k_(?:live|test)_[0-9A-Za-z]{{10,}}|whsec_{_CODE}{{16,}}|sk-{_CODE}{{20,}}"
    r"|gh[opsur]_[0-9A-Za-z]{20,}|github_pat_[0-9A-Za-z_]{20,}|npm_[0-9A-Za-z]{36}"
    rf"|gl(?:pat|dt|rt)-{_CODE}{{16,}}|xox[a-z]-{_CODE}{{10,}}|pypi-{_CODE}{{20,}}"
    rf"|A[KS]IA[0-9A-Z]{{16}}|AIza{_CODE}{{35}}|ya29\.{_CODE}{{20,}}|hf_[0-9A-Za-z]{{30,}}"
    rf"|SG\.{_CODE}{{16,}}\.{_CODE}{{16,}}|dop_v1_[0-9a-f]{{32,}}"
    rf"|(?:ingest|secret)_[0-9a-f]{{12}}_{_CODE}{{43}})"
)
_LOCAL = r"[0-9A-Za-z_.%+'!#$*~^\x80-\xff-]"
_LABEL = r"[0-9A-Za-z\x80-\xff-]"
_DOMAIN = rf"(?:{_LABEL}+\.)+(?:xn--[0-9A-Za-z-]+|[A-Za-z]{{2,}}|[\x80-\xff]{{4,}})"
_HEX = "[0-9A-Fa-f:]"
# All networks with hosts start with a group of four digits, but for those that embed IPv4.
_IPV6 = r"(?i:[23][0-9a-f]{3}|f[cd][0-9a-f]{2}|fe[89a-f][0-9a-f]|::ffff|64:ff9b:):"
_CARD_BEFORE = rf"(?:{_BEFORE}|(?:\A|[^0-9]|{_CONTROL})\.)"
_CARD = "([2-6][0-9]{12,18})"
_CARD_BY_FOURS = "(([2-6][0-9]{3})(?:[ +-][0-9]{4}){3})"
_CARD_BY_SIX = "((3[0-9]{3})[ +-][0-9]{6}[ +-][0-9]{4,5})"
_DIALLED = r"\+[1-9](?:[ ()./-]{0,2}[0-9])"
_LOCAL_CALL = r"(?:\([2-9][0-9]{2}\)[ -]?|[2-9][0-9]{2}-)[2-9][0-9]{2}[ -][0-9]{4}"
_WINDOWS_HOME = r"(?:\\|:[\\/]+)(?i:users|documents and settings)[\\/]+"
_UNIX_HOME = r"[\\/](?:home|Users)[\\/]+"
_NOT_IN_NAMES = r"\x00-\x20\\/\"'<>|:*?,;&#()\[\]{}"
_NAME = rf"[^{_NOT_IN_NAMES}]*[^{_NOT_IN_NAMES}.]"
_FULL_NAME = rf"({_NAME}(?: {_NAME}){{1,3}})"

# Triggers alone: of names, which say it of the values; and of escapes, in which anything may be.
NAMED = _rule("named", f"(?:{'|'.join(_SPELT.values())}){_IS}")
ESCAPED = _rule(
    "escaped",
    r"%[0-9A-Fa-f]{2}|\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})|\xc2\xad|\xe2\x80[\x8b-\x8f]"
    r"|\xe2\x81\xa0|\xef\xbb\xbf|\xef\xbc[\x81-\xbf]|\xef\xbd[\x80-\x9e]",
)
RULES = (
    _rule(
        "key",
        "PRIVATE KEY",
        r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY[^\x00]*?-----END [A-Z0-9 ]*PRIVATE KEY[A-Z -]*)",
        r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY[^\x00]*)",
    ),
    _rule(
        "credentials",
        r":\\*/\\*/[^\s/]+@",
        r":\\*/\\*/([^\x00-\x20/?#\"'<>\\]+)@",
        check=_is_userinfo,
    ),
    _rule(
        "secret",
        rf"(?i:cookie){_IS}",
        rf"(?i:cookie){_SPACE}:{_SPACE}([^\"\\\x00-\x1f]+)",
        check=_is_told,
    ),
    _pair("secret", check=_is_secret),
    _pair("subject", check=_is_told),
    _pair("session", check=_is_told),
    _rule("token", rf"eyJ{_CODE}{{6,}}\.", rf"(eyJ{_CODE}{{6,}}(?:\.{_CODE}*){{1,4}})"),
    _rule("token", r"(?i:bearer)[ +]", r"(?i:bearer)[ +]+([\w.~+/=-]{8,})", check=_has_digit),
    _rule("token", r"(?i:basic)[ +]", r"(?i:basic)[ +]+([\w+/]{6,}={0,2})", check=_is_login),
    _rule("key", _API_KEY, rf"(?:\A|[^0-9A-Za-z]|{_CONTROL})({_API_KEY})", check=_has_digit),
    _rule("key", "[?&;]key=", rf"[?&;]key=({_CODE}{{8,}})", check=_has_digit),
    _rule(
        "email",
        f"{_LOCAL}@{_LABEL}",
        rf"([0-9A-Za-z_+\x80-\xff]{_LOCAL}*@{_DOMAIN})",
        check=_is_mailbox,
    ),
    _rule(
        "ip",
        f"[0-9A-Fa-f]{{3}}:{_HEX}",
        rf"{_BEFORE}({_IPV6}(?:(?:{_HEX}[0-9A-Fa-f:.]*)?(?:[0-9A-Fa-f]\b(?:%\w+)?|::)|:))",
        check=_is_ipv6,
    ),
    _rule(
        "ip",
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        rf"{_BEFORE}([0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})\b",
        check=_is_ipv4,
    ),
    _rule(
        "mac",
        "(?i:(?:[0-9a-f]{2}[:-]){5}[0-9a-f])",
        rf"{_BEFORE}((?i:(?:[0-9a-f]{{2}}[:-]){{5,}}[0-9a-f]{{2}}))\b",
        check=_is_mac,
    ),
    _rule(
        "card",
        rf"{_CARD_BEFORE}(?:{_CARD}|{_CARD_BY_FOURS}|{_CARD_BY_SIX})\b",
        rf"{_CARD_BEFORE}{_CARD}\b",
        rf"{_CARD_BEFORE}({_CARD_BY_FOURS}[ +-][0-9]{{3}})\b",
        rf"{_CARD_BEFORE}{_CARD_BY_FOURS}\b",
        rf"{_CARD_BEFORE}{_CARD_BY_SIX}\b",
        check=_is_card,
    ),
    _rule("phone", _DIALLED + "{7}", rf"{_BEFORE}({_DIALLED}{{7,}})\b", check=_is_dialled),
    _rule(
        "phone",
        "[0-9][)-][ -]?[2-9][0-9]{2}[ -][0-9]{4}",
        rf"(?:\A|[^\w.-]|{_CONTROL})((?:1[ -])?{_LOCAL_CALL})\b",
        check=_is_called,
    ),
    _rule(
        "phone",
        "(?i:tel|sms|callto):[+0-9(]",
        rf"{_BEFORE}(?i:tel|sms|callto):([+0-9(][0-9()./ -]{{4,}}[0-9])",
    ),
    _rule(
        "user",
        _WINDOWS_HOME + r"[^\\/\[]",
        # A name may be several words, where it is plain where they end.
        rf"{_WINDOWS_HOME}{_FULL_NAME}[\\/\"']",
        rf"(?:\A|\x00)[A-Za-z]{_WINDOWS_HOME}{_FULL_NAME}(?:\x00|\z)",
        f"{_WINDOWS_HOME}({_NAME})",
        check=_is_person,
    ),
    _rule("user", _UNIX_HOME + r"[^\\/\[]", f"{_UNIX_HOME}({_NAME})", check=_is_person),
    NAMED,
    ESCAPED,
)
_TRIGGERS = _set(rule.trigger for rule in RULES)


def hits(text: bytes) -> list[Rule]:
    """The rules whose triggers occur in `text`: JSON, or a string of it."""
    found = _TRIGGERS.Match(text)
    return [RULES[index] for index in sorted(found)] if found else []


class Exhausted(Exception):
    """A batch has more to look at than chance or carelessness put there."""


class Effort:
    """What is spent on one batch, in matches looked at: nobody's batch may cost seconds."""

    def __init__(self, most: int = 50_000) -> None:
        self._left = most

    def spend(self) -> None:
        """Raises Exhausted once all is spent."""
        self._left -= 1
        if self._left < 0:
            raise Exhausted


def replaced(text: bytes, rule: Rule, mark: Callable[[str, bytes], bytes], effort: Effort) -> bytes:
    """`text` in which `mark` stands for each thing that `rule` finds; raises Exhausted."""
    for form in rule.forms:
        pieces, done, matches = [], 0, form.finditer(text)
        while match := next(matches, None):
            effort.spend()
            start, end = match.span(1)
            value = text[start:end]
            if rule.check(value, text, start):
                pieces += [text[done:start], mark(rule.kind, value)]
                done = end
            elif form.groups > 1:
                matches = form.finditer(text, match.end(2))
        if done:
            text = b"".join([*pieces, text[done:]])
    return text
