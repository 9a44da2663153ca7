"""Scorers and rules of texts: the published filters, in about the order in which FineWeb's pipeline runs them.

Bounds of Gopher: Rae et al. 2021, table A1 and appendix A1.1; of C4: Raffel et al. 2020, section 2.2; of FineWeb:
Penedo et al. 2024, section 3.6 and its language filter. What counts English words or letters judges no other language.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from reelmill.curation.rules import Rule
from reelmill.curation.scorers.gopher import REPEATED_GRAMS
from reelmill.curation.texts.config import TextConfig

SCORERS = ("language", "gopher_repetition", "gopher_quality", "c4", "fineweb")
_UNSPACED = ("zh", "zh-Hant", "ja", "th", "lo", "my", "km")
"""Languages without blanks between words: their characters count as words, and say much on a short line."""

_rule = partial(Rule, kinds=["text"])


def text_config() -> TextConfig:
    """Everything on; a document has at most 100,000 characters (ours), which fit Emu3's context in any language."""
    return TextConfig(clean=True, mask=["mail", "phone", "ip", "key"], max_chars=100_000)


def text_scorers() -> dict[str, dict[str, Any]]:
    """The scorers that the rules ask for, in the order they run: the language first, stop words depend on it."""
    return {name: {} for name in SCORERS} | {"c4": {"terminal_punctuation": False}}  # as FineWeb, section 3.5


def text_rules() -> dict[str, Rule]:
    """What is kept of texts."""
    return {
        "language": _rule("coalesce(text_language_share, 0)", min=0.65, stage="language"),  # FineWeb's bound
        "words": _rule(
            "gopher_words", min=50.0, max=100_000.0, stage="quality"
        ),  # first: what is short fails others too
        **_repetition(),
        **_quality(),
        **_c4(),
        **_fineweb(),
    }


def _repetition() -> dict[str, Rule]:
    rule = partial(_rule, stage="repetition")
    bounds = dict(zip(REPEATED_GRAMS, (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True))
    return {
        "repeated_paragraphs": rule("gopher_repeated_paragraphs", max=0.3),
        "repeated_paragraph_chars": rule("gopher_repeated_paragraph_chars", max=0.2),
        "repeated_lines": rule("gopher_repeated_lines", max=0.3),
        "repeated_line_chars": rule("gopher_repeated_line_chars", max=0.2),
        "top_2grams": rule("gopher_top_2grams", max=0.2),
        "top_3grams": rule("gopher_top_3grams", max=0.18),
        "top_4grams": rule("gopher_top_4grams", max=0.16),
        **{f"repeated_{n}grams": rule(f"gopher_repeated_{n}grams", max=bound) for n, bound in bounds.items()},
    }


def _quality() -> dict[str, Rule]:
    rule = partial(_rule, stage="quality")
    return {
        "word_length": rule(_spaced("gopher_word_length"), min=3.0, max=10.0, null="keep"),
        "hashes": rule("gopher_hashes", max=0.1),
        "ellipses": rule("gopher_ellipses", max=0.1),
        "bullet_lines": rule("gopher_bullet_lines", max=0.9),
        "ellipsis_lines": rule("gopher_ellipsis_lines", max=0.3),
        "alphabetic": rule("gopher_alphabetic", min=0.8),
        "stop_words": rule("gopher_stop_words", min=2.0, null="keep"),
    }


def _c4() -> dict[str, Rule]:
    rule = partial(_rule, stage="c4", null="keep")
    return {
        "lorem_ipsum": rule(_english("c4_lorem_ipsum::INTEGER"), max=0.0),
        "curly_bracket": rule(_english("c4_curly_bracket::INTEGER"), max=0.0),
        "sentences": rule(_english("c4_sentences"), min=5.0),
    }


def _fineweb() -> dict[str, Rule]:
    rule = partial(_rule, stage="fineweb")
    return {
        "ended_lines": rule("fineweb_ended_lines", min=0.12),
        "short_lines": rule(_spaced("fineweb_short_lines"), max=0.67, null="keep"),
        "repeated_chars": rule("fineweb_repeated_chars", max=0.01),
        "line_ends": rule("fineweb_line_ends", max=0.3),
    }


def _spaced(expr: str) -> str:
    return f"CASE WHEN text_language NOT IN ({', '.join(repr(name) for name in _UNSPACED)}) THEN {expr} END"


def _english(expr: str) -> str:
    return f"CASE WHEN text_language = 'en' THEN {expr} END"
