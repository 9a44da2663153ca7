"""The code that CONTRIBUTING shows, for tests that run it."""

import re
from pathlib import Path

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def block(language, containing):
    """The one fenced block of CONTRIBUTING in `language` that holds some words."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", CONTRIBUTING.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = (text for text in blocks if containing in text)
    return found
