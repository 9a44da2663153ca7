"""Claim: on texts of some length CLD2, the default, names more languages rightly than fastText's lid.176, and faster.

    pip download --no-deps Django==5.2
    python bench/languages.py Django-5.2-py3-none-any.whl [--json]

Texts of known languages are the translations of Django's own messages (BSD), which people wrote: one after another
until a text has so many characters, a third of that in Chinese, Japanese and Korean. Of 1,000 texts in each language
it prints how many are named wrongly or not at all. Variants of a language count as one, and so do Chinese's scripts.
"""

import argparse
import io
import re
import time
import zipfile
from collections import defaultdict
from itertools import pairwise

import numpy as np
from beside import print_figures

from reelmill.curation.interfaces import Frames, Sample
from reelmill.curation.scorers import create
from reelmill.curation.texts.stop_words import STOP_WORDS

NO_FRAMES = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0), np.zeros((0, 3, 1, 1), np.uint8))
MESSAGES = re.compile(r"django/(?:conf|contrib/\w+)/locale/(\w+)/LC_MESSAGES/django\.po")
NAMED_OTHERWISE = {"nb": "no", "nn": "no"}
DENSE = ("zh", "ja", "ko")
SHORTEST, FEWEST = 25, 60
"""Characters of a message, and messages of a language, that are worth asking about."""


def messages(po):
    """Translations in a file of gettext, the uncertain left out, placeholders and tags taken out."""
    for entry in re.split(r"\n{2,}", po)[1:]:
        if "#, fuzzy" in entry or entry.startswith("#~"):
            continue
        found = re.search(r'^msgstr(?:\[0\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', entry, re.MULTILINE)
        text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', found[1])) if found else ""
        text = re.sub(r"%\(\w+\)[sd]|%[sd]|\{\w*\}|<[^>]+>|\\.", " ", text)
        yield " ".join(text.split())


def translations(wheel):
    """Messages by language, each once."""
    found = defaultdict(dict)
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if match := MESSAGES.fullmatch(name):
                code = match[1].split("_")[0]
                code = NAMED_OTHERWISE.get(code, code)
                least = SHORTEST // 3 if code in DENSE else SHORTEST
                po = io.TextIOWrapper(archive.open(name), "utf-8").read()
                found[code] |= {text: None for text in messages(po) if len(text) >= least}
    return {code: list(texts) for code, texts in found.items() if len(texts) >= FEWEST}


def joined(texts, chars):
    """Messages one after another until they have `chars` characters."""
    ends = np.cumsum([len(text) for text in texts])
    cuts = [0, *(np.flatnonzero(np.diff(ends // chars)) + 1).tolist()]
    return ["\n".join(texts[start:stop]) for start, stop in pairwise(cuts)]


def accuracy(scorer, texts):
    """Share of texts of each language whose language is found."""
    shares = {}
    for code, own in texts.items():
        found = [row["text_language"] for row in scorer.score(list(map(sample, own)))]
        found = [NAMED_OTHERWISE.get(name, (name or "").split("-")[0]) for name in found]
        shares[code] = found.count(code) / len(found)
    return shares


def sample(text):
    return Sample("s", "i", "text", 0.0, 0.0, 0, 0, 0.0, NO_FRAMES, {}, text=text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    texts = translations(asked.wheel)
    figures = {}
    for name in ("language", "lid176"):
        scorer = create(name)
        scorer.setup()
        row = {}
        for label, chars in (
            ("single messages", 1),
            ("texts of 150 characters", 150),
            ("texts of 600 characters", 600),
        ):
            asked_for = {c: joined(own, chars // 3 + 1 if c in DENSE else chars) for c, own in texts.items()}
            shares = accuracy(scorer, asked_for)
            known = [share for code, share in shares.items() if code in STOP_WORDS]
            row[f"wrong of 1,000 {label}, {len(shares)} languages"] = 1000 * (1 - float(np.mean([*shares.values()])))
            row[f"wrong of 1,000 {label}, {len(known)} languages with stop words"] = 1000 * (1 - float(np.mean(known)))
        long = [sample(text) for own in texts.values() for text in joined(own, 3000)]
        for one in long:
            one.words  # noqa: B018  (made before the clock starts: all scorers share them)
        began = time.process_time()
        scorer.score(long)
        row["MB a CPU-second"] = sum(len(one.text.encode()) for one in long) / 1e6 / (time.process_time() - began)
        figures[name] = row
    print_figures(figures, asked.json)


if __name__ == "__main__":
    main()
