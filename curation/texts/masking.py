"""Personal data in texts: mail addresses, telephone numbers, IP addresses and secret keys, each masked and counted.

Patterns prefer silence to noise: a number is a telephone number only where it is written as one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection

_MAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}\b"
)
_PHONE = re.compile(
    r"(?:"
    r"\+\d{1,3}[ .-]?(?:\(0\)|\(\d{1,4}\))?(?:[ .-]?\d{1,4}){2,5}"  # +49 (0)30 901820, E.123
    r"|\(\d{2,5}\) ?\d{3,4}[ .-]\d{3,5}"  # (212) 555-0123
    r"|[2-9]\d{2}[.-][2-9]\d{2}[.-]\d{4}"  # 212-555-0123
    r"|1[3-9]\d{9}"  # Chinese mobile numbers
    r")(?![\w-])"
)
_IP4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w]|\.\d)")
_IP6 = re.compile(r"(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])")
_IP4_PART = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")
_IP6_PART = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]")
"""What any address holds, quicker to look for."""
_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?:(?!-----)[\s\S]){0,8192}-----END (?:[A-Z]+ )?PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon
    r"|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{60,90}\b"  # GitHub
    r"|\bAIza[\w-]{35}(?![\w-])"  # Google
    r"|(?<![\w-])xox[abprs]-[A-Za-z0-9-]{10,72}"  # Slack
    r"|(?<![\w-])sk-(?:[a-z]{2,8}-)?[\w-]{32,160}"  # OpenAI and others
    r"|\bhf_[A-Za-z]{34}\b"  # Hugging Face
    r"|(?<![\w-])eyJ[\w-]{10,2048}\.eyJ[\w-]{10,4096}\.[\w-]{10,1024}"  # JSON web tokens
)
_KEY_MARKS = (
    "PRIVATE KEY",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "AIza",
    "xox",
    "sk-",
    "hf_",
    "eyJ",
)
_SHORTEST_IP6 = 7
_MIN_DIGITS, _MAX_DIGITS = 7, 15
"""Digits of a telephone number (ITU-T E.164 allows 15)."""


def mask(text: str, kinds: Collection[str]) -> tuple[str, dict[str, int]]:
    """The text with what was found replaced by `[mail]`, `[phone]`, `[ip]` or `[key]`, and how many of each kind."""
    counts = dict.fromkeys(kinds, 0)
    for kind in (kind for kind in _MASKS if kind in counts):  # keys first: they may hold what looks like another
        text, counts[kind] = _MASKS[kind](text)
    return text, counts


def _mails(text: str) -> tuple[str, int]:
    return _MAIL.subn("[mail]", text) if "@" in text else (text, 0)


def _keys(text: str) -> tuple[str, int]:
    return _KEY.subn("[key]", text) if any(mark in text for mark in _KEY_MARKS) else (text, 0)


def _addresses(text: str) -> tuple[str, int]:
    text, four = _each(_IP4, text, "[ip]", _is_public) if _IP4_PART.search(text) else (text, 0)
    text, six = _each(_IP6, text, "[ip]", _is_long_and_public) if _IP6_PART.search(text) else (text, 0)
    return text, four + six


def _phones(text: str) -> tuple[str, int]:
    return _each(_PHONE, text, "[phone]", lambda found: _MIN_DIGITS <= sum(map(str.isdigit, found)) <= _MAX_DIGITS)


def _each(pattern: re.Pattern[str], text: str, by: str, is_one: Callable[[str], bool]) -> tuple[str, int]:
    count = 0

    def replaced(match: re.Match[str]) -> str:
        nonlocal count
        if _continues(text, match.start()) or not is_one(match.group()):
            return match.group()
        count += 1
        return by

    return pattern.sub(replaced, text), count


def _continues(text: str, start: int) -> bool:
    """Whether what was found is the end of something longer. Patterns that begin by asking it take twice the time."""
    return start > 0 and (text[start - 1].isalnum() or text[start - 1] in "_.+-")


def _is_long_and_public(text: str) -> bool:
    """For IPv6: `a::b` is one too, but more likely a program's name."""
    return len(text) > _SHORTEST_IP6 and any(map(str.isdigit, text)) and _is_public(text)


def _is_public(text: str) -> bool:
    """Whether it is an address of some machine on the internet: 127.0.0.1 and 10.0.0.1 are nobody's."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


_MASKS: dict[str, Callable[[str], tuple[str, int]]] = {
    "key": _keys,
    "mail": _mails,
    "ip": _addresses,
    "phone": _phones,
}
