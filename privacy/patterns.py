"""What personal data and secrets look like in text, as one table of rules. Pure.

All is matched by RE2, in time linear in the text; what needs more than a pattern is a check of one
match. Texts are UTF-8 of which any byte above 0x7F counts as a letter: addresses in all scripts are
found, and the automata stay small.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import re2  # type: ignore[import-untyped]

from privacy.checks import (
    Check,
    has_digit,
    is_any,
    is_called,
    is_card_number,
    is_dialled,
    is_ipv4,
    is_ipv6,
    is_login,
    is_mac,
    is_mailbox,
    is_person,
    is_secret,
    is_told,
    is_userinfo,
)
from privacy.names import CONTROL, SPELT


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


# --- The rules ------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """How one kind of personal data looks.

    The trigger occurs wherever a form matches, and in the JSON text of a string in which one does:
    it is what whole batches are scanned for. Group 1 of a form is what goes, if the check agrees.
    If it doesn't, the search goes on behind the match, or behind group 2 where there is one.
    """

    kind: str
    trigger: str
    forms: tuple[Any, ...]
    check: Check


def _rule(kind: str, trigger: str, *forms: str, check: Check = is_any) -> Rule:
    return Rule(kind, trigger, tuple(map(_compile, forms)), check)


# Before what is no part of something longer.
_BEFORE = rf"(?:\A|[^0-9A-Za-z_.]|{CONTROL})"
# Between a name and its value, in JSON, in a query, in prose; and the value.
_SPACE = r"(?:\s|\\+[fnrt])*"
_IS = rf"(?:[\"'\\]+\]?)?{_SPACE}(?:=>|[:=])"
_QUOTED = rf"{_SPACE}\\*[\"']([^\"'\\\x00-\x1f]+)"
_BARE = rf"{_SPACE}((?i:(?:bearer|basic|digest|token) +)?[^\"'\\&,;<>(){{}}\x00-\x20]+)"


def _pair(kind: str, check: Check) -> Rule:
    """The rule of what follows a name, in text."""
    name = SPELT[kind] + _IS
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
_CARD_BEFORE = rf"(?:{_BEFORE}|(?:\A|[^0-9]|{CONTROL})\.)"
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
NAMED = _rule("named", f"(?:{'|'.join(SPELT.values())}){_IS}")
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
        check=is_userinfo,
    ),
    _rule(
        "secret",
        rf"(?i:cookie){_IS}",
        rf"(?i:cookie){_SPACE}:{_SPACE}([^\"\\\x00-\x1f]+)",
        check=is_told,
    ),
    _pair("secret", check=is_secret),
    _pair("subject", check=is_told),
    _pair("session", check=is_told),
    _rule("token", rf"eyJ{_CODE}{{6,}}\.", rf"(eyJ{_CODE}{{6,}}(?:\.{_CODE}*){{1,4}})"),
    _rule("token", r"(?i:bearer)[ +]", r"(?i:bearer)[ +]+([\w.~+/=-]{8,})", check=has_digit),
    _rule("token", r"(?i:basic)[ +]", r"(?i:basic)[ +]+([\w+/]{6,}={0,2})", check=is_login),
    _rule("key", _API_KEY, rf"(?:\A|[^0-9A-Za-z]|{CONTROL})({_API_KEY})", check=has_digit),
    _rule("key", "[?&;]key=", rf"[?&;]key=({_CODE}{{8,}})", check=has_digit),
    _rule(
        "email",
        f"{_LOCAL}@{_LABEL}",
        rf"([0-9A-Za-z_+\x80-\xff]{_LOCAL}*@{_DOMAIN})",
        check=is_mailbox,
    ),
    _rule(
        "ip",
        f"[0-9A-Fa-f]{{3}}:{_HEX}",
        rf"{_BEFORE}({_IPV6}(?:(?:{_HEX}[0-9A-Fa-f:.]*)?(?:[0-9A-Fa-f]\b(?:%\w+)?|::)|:))",
        check=is_ipv6,
    ),
    _rule(
        "ip",
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        rf"{_BEFORE}([0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})\b",
        check=is_ipv4,
    ),
    _rule(
        "mac",
        "(?i:(?:[0-9a-f]{2}[:-]){5}[0-9a-f])",
        rf"{_BEFORE}((?i:(?:[0-9a-f]{{2}}[:-]){{5,}}[0-9a-f]{{2}}))\b",
        check=is_mac,
    ),
    _rule(
        "card",
        rf"{_CARD_BEFORE}(?:{_CARD}|{_CARD_BY_FOURS}|{_CARD_BY_SIX})\b",
        rf"{_CARD_BEFORE}{_CARD}\b",
        rf"{_CARD_BEFORE}({_CARD_BY_FOURS}[ +-][0-9]{{3}})\b",
        rf"{_CARD_BEFORE}{_CARD_BY_FOURS}\b",
        rf"{_CARD_BEFORE}{_CARD_BY_SIX}\b",
        check=is_card_number,
    ),
    _rule("phone", _DIALLED + "{7}", rf"{_BEFORE}({_DIALLED}{{7,}})\b", check=is_dialled),
    _rule(
        "phone",
        "[0-9][)-][ -]?[2-9][0-9]{2}[ -][0-9]{4}",
        rf"(?:\A|[^\w.-]|{CONTROL})((?:1[ -])?{_LOCAL_CALL})\b",
        check=is_called,
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
        check=is_person,
    ),
    _rule("user", _UNIX_HOME + r"[^\\/\[]", f"{_UNIX_HOME}({_NAME})", check=is_person),
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


# --- The names of keys ----------------------------------------------------------------------------

_KINDS = tuple(SPELT)
_KEYS = _set(rf"{name}\z" for name in SPELT.values())
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
