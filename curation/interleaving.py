"""Pages as interleaved documents: which of their images belong into them. The view `page_images` applies this."""

from __future__ import annotations

from dataclasses import dataclass

from reelmill.errors import ConfigError


@dataclass
class InterleavedConfig:
    """How a page becomes documents. Bounds on images are those of OBELICS (Laurençon et al. 2023, appendix A)."""

    max_tokens: int = 32_768
    """Tokens of a document, at most (Emu3.5 section 3.2: its context is 32,768)."""
    min_side: int = 150
    """Pixels of an image's shorter side, at least: below are icons and trackers."""
    max_ratio: float = 2.0
    """An image's longer side over its shorter one, at most: above are banners and rules."""
    max_pages: int = 10
    """Pages of the dump that show an image, at most: more show a decoration."""
    decorations: str = "logo|button|icon|plugin|widget"
    """A regular expression; an image with it in its address is a decoration."""

    def __post_init__(self) -> None:
        if self.max_tokens < 16 or self.min_side < 1 or self.max_ratio < 1 or self.max_pages < 1:
            raise ConfigError(
                "tokens.interleaved: max_tokens must be at least 16, min_side, max_ratio and max_pages at least 1"
            )
