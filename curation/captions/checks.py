"""What is wrong with a caption, and which language it is in. Pure functions over text, the same for every source.

The checks are heuristics over words and scripts, made to be cheap and readable: what they flag falls back to the next
caption of the sample, nothing is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

Problem = Literal["empty", "garbled", "file_name", "refusal", "leaked_template", "repetition", "seo_list", "too_short"]
Language = Literal["en", "zh", "other"]

MIN_WORDS = 2
"""Fewest words of a caption; a Chinese character counts as half a word."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\u1100-\u11ff\uac00-\ud7af]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_FUNCTION_WORDS = {
    "en": "the a an of and in on with at by for from to is are was were it its this that over under two",
    "fr": "le la les un une des du de et dans sur avec au aux est sont qui pour par ce cette",
    "de": "der die das ein eine einen und mit auf im in den dem des ist sind von zu am über",
    "es": "el la los las un una unos y en con de del al es son que por para sobre",
    "it": "il lo la gli le un una e in con di del della al è sono che per su nel",
    "pt": "o a os as um uma e em com de do da no na é são que por para sobre",
    "nl": "de het een en in op met van is zijn dat voor aan te bij",
}
_STOPWORDS = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}

_SUFFIXES = "jpe?g|png|gif|webp|bmp|tiff?|avif|heic|mp4|m4v|mov|mkv|webm|avi|flv|wmv|mpe?g|3gp"
_FILE_NAME = re.compile(
    rf"""^(?:
        [^\n]{{0,200}}\.(?:{_SUFFIXES})                                      # anything that ends like a media file
        | (?:img|image|dsc[nf]?|pxl|vid|video|mvi|gopr|photo|pic|picture|screen[ -]?shot|untitled|clip|file|wa)
          [-_ ]*[(]?\d[\d_ .():-]*                                           # IMG_0123, Screenshot 2024-01-01
        | [0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}                # a UUID
        | (?=[0-9a-f]*\d)[0-9a-f]{{12,}}                                     # a hash
        | [\d\s_.:x-]+                                                       # nothing but numbers
        | \S*_\S*\d\S*                                                       # one_token_with_7
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
_REFUSAL = re.compile(
    r"""
    \b(?:i['’]?m|i\ am)\ (?:sorry|unable|not\ able)\b | \bi\ apologi[sz]e\b
    | \bi\ can(?:no|['’])?t\ (?:actually\ )?(?:help|assist|see|view|access|describe|identify|provide|comply|process)\b
    | \bi\ (?:do(?:n['’]t|\ not))\ have\ (?:access|the\ ability)\b
    | \bas\ an?\ (?:ai|artificial|language\ model|text[- ]based)\b
    | \b(?:no|without\ (?:an?|any))\ (?:image|video|picture|frame)s?\ (?:was|were|is|has|have|provided|attached)\b
    | 抱歉 | 对不起 | 我(?:无法|不能|没办法) | 作为(?:一个|一名)?\ ?(?:AI|人工智能|语言模型)
    | (?:没有|未)(?:看到|提供)(?:任何)?(?:图|视频)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_REFUSAL_WITHIN = 160  # characters: a refusal says so at once; later on the same words may be about the picture
_TEMPLATE = re.compile(
    r"""<\|[^|<>]{0,40}\|> | </?s> | \[/?INST\]
    | </?(?:think|image|img|video|bos|eos|pad|unk|start_of_turn|end_of_turn)>
    | <</?SYS>> | ^[ ]*(?:user|human|assistant|system|用户|助手)\s*[:：]
    | ^[ ]*\#{2,}[ ]*(?:instruction|response|caption)
    | \{\{.{0,60}\}\} | \{%.{0,60}%\}""",
    re.IGNORECASE | re.VERBOSE,
)
_SEPARATORS = re.compile(r"[,;|#•·、，；/]+|\s[-–>]+\s")
_SENTENCE_END = re.compile(r"[.!?。！？…](?=\s|$|[^\x00-\x7f])|[。！？]")


def problem(caption: str | None, prompts: Sequence[str] = ()) -> Problem | None:
    """Why a caption is junk, or None. `prompts` are what a model was asked: repeating them is a leak."""
    text = (caption or "").strip()
    checks: tuple[tuple[Problem, Callable[[], object]], ...] = (
        ("empty", lambda: not re.search(r"\w", text)),
        ("garbled", lambda: "\ufffd" in text),
        ("file_name", lambda: len(text) <= 255 and _FILE_NAME.match(text)),
        ("leaked_template", lambda: _TEMPLATE.search(text) or _echoes(text, prompts)),
        ("refusal", lambda: _REFUSAL.search(text[:_REFUSAL_WITHIN])),
        ("repetition", lambda: _repeats(text)),
        ("seo_list", lambda: _is_seo_list(text)),
        ("too_short", lambda: n_words(text) < MIN_WORDS),
    )
    return next((name for name, found in checks if found()), None)


def language(caption: str | None) -> Language | None:
    """`en`, `zh` or `other`; None without letters. By script, and among Latin scripts by function words.

    Latin text without any known function word counts as English when it is plain ASCII. Chinese characters between
    kana or hangul are not Chinese.
    """
    text = caption or ""
    han, kana, latin = (len(script.findall(text)) for script in (_HAN, _KANA_HANGUL, _LATIN))
    letters = sum(character.isalpha() for character in text)
    if not letters:
        return None
    if kana and 4 * kana >= han:
        return "other"
    if 3 * han >= latin and 2 * (han + latin) >= letters and han:
        return "zh"
    if 2 * latin < letters:
        return "other"
    words = Counter(_WORD.findall(text.lower()))
    found = {name: sum(words[word] for word in stopwords) for name, stopwords in _STOPWORDS.items()}
    best = max(found.values())
    if best == 0:
        return "en" if all(ord(letter) < 128 for letter in text if letter.isalpha()) else "other"
    return "en" if found["en"] == best else "other"


def n_words(text: str) -> float:
    """Words of a text; two Chinese characters make a word."""
    han = len(_HAN.findall(text))
    return han / 2 + len(_WORD.findall(_HAN.sub(" ", text)))


def whole_sentences(text: str) -> str:
    """A text that was cut off, without its unfinished last sentence; as it is when it has no finished one."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else text


def _echoes(text: str, prompts: Sequence[str]) -> bool:
    """Whether the caption repeats a sentence of a prompt (of at least 20 characters)."""
    folded = " ".join(text.lower().split())
    sentences = (
        part for prompt in prompts for part in re.split(r"(?<=[.!?。！？])\s*", " ".join(prompt.lower().split()))
    )
    return any(len(part) >= 20 and part in folded for part in sentences)


def _repeats(text: str) -> bool:
    """A phrase 4 times in a row, a sentence of 3 words 3 times, or few different words in many."""
    words = [word.lower() for word in _WORD.findall(_HAN.sub(lambda han: f" {han.group()} ", text))]
    for length in range(1, 13):
        run = 0
        for i in range(length, len(words)):
            run = run + 1 if words[i] == words[i - length] else 0
            if run >= 3 * length:
                return True
    sentences = Counter(part.strip().lower() for part in re.split(r"[.!?。！？\n]+", text) if n_words(part) >= 3)
    if sentences and max(sentences.values()) >= 3:
        return True
    return bool(re.search(r"([^\s\d])\1{9,}", text)) or (len(words) >= 24 and len(set(words)) < len(words) / 5)


def _is_seo_list(text: str) -> bool:
    """Keywords in a row: hashtags, or 6 and more short pieces without the words that make a sentence."""
    if len(re.findall(r"(?:^|\s)#\w+", text)) >= 4:
        return True
    pieces = [piece for piece in (part.strip() for part in _SEPARATORS.split(text)) if piece]
    if len(pieces) < 6:
        return False
    words = [word.lower() for word in _WORD.findall(text)]
    han = len(_HAN.findall(text))
    glue = sum(any(word in stop for stop in _STOPWORDS.values()) for word in words)
    return n_words(text) / len(pieces) <= 3 and glue <= len(words) / 10 and han <= 4 * len(pieces)
