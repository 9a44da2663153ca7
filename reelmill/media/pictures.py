"""Pictures, decoded with Pillow inside the untrusted child: upright, sRGB, transparency over white."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, ImageSequence, TiffImagePlugin, UnidentifiedImageError

from reelmill.errors import Refused
from reelmill.media.coding import Coding, coding_of
from reelmill.media.colour import PRIMARIES, RANGES, TRANSFERS, conversion, to_srgb
from reelmill.media.containers import HEAD
from reelmill.media.damage import Damage
from reelmill.media.deep import DEMUXERS, deep_values
from reelmill.media.kinds import described, is_image
from reelmill.media.limits import Limits
from reelmill.media.moving import Facts
from reelmill.media.picture_damage import complaints, decode_jpeg
from reelmill.media.source import Source

Image.init()  # all of Pillow's plugins now, not by each worker of the child for itself
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats whose further pictures are frames. Those of a TIFF are pages, those of a JPEG (MPO) other views."""
FRAMES_SEEN = 64
"""Of an animation that is taken as one picture, the first of so many frames that is not of one color."""
_ORIENTATION = 0x0112
PLAIN_GAMMA = 1 / 2.2
"""PNG's gAMA of values that are sRGB's as they are."""


@dataclass(frozen=True)
class Opened:
    """An image file whose header was read and found to be within the limits."""

    source: Source
    file: Image.Image
    coding: Coding
    frames: int
    damage: Damage = field(default_factory=Damage)

    @property
    def is_animation(self) -> bool:
        """Whether it moves."""
        return self.frames > 1 and self.file.format in ANIMATED

    def shown(self) -> Iterator[Image.Image]:
        """Its frames, without one that only readers of plain PNG see (PNG third edition, 4.9: the static image)."""
        frames = iter(ImageSequence.Iterator(self.file))
        if _is_hidden_first(self.file):
            next(frames, None)
        yield from frames

    def facts(self, width: int, height: int) -> Facts:
        """What the items table says of it."""
        coding = self.coding
        profile = None if coding.outweighs_profile else self.file.info.get("icc_profile")
        return Facts(
            width,
            height,
            codec=(self.file.format or "").lower(),
            frames=self.frames,
            transfer=TRANSFERS.get(coding.transfer),
            primaries=_profile_name(profile) if profile else PRIMARIES.get(coding.primaries),
            colour_range=RANGES.get(coding.range),
            bit_depth=coding.bit_depth,
            errors=self.damage.errors,
            damage=self.damage.words(),
        )


_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, TypeError, ArithmeticError, struct.error
)  # fmt: skip
"""What Pillow and its plugins raise for bytes that are not what they should be; any of them, by what was tried."""


@contextmanager
def damage_refused() -> Iterator[None]:
    """What Pillow says of damaged bytes inside of the block becomes Refused."""
    try:
        yield
    except UnidentifiedImageError:
        raise Refused("corrupt: the header cannot be read") from None
    except _DAMAGE as error:
        raise Refused(f"corrupt: {' '.join(str(error).split())[:200]}") from None


@contextmanager
def opened(source: Source, limits: Limits) -> Iterator[Opened]:
    """Open an image file and check its header."""
    limits.check_image_bytes(source.size)
    Image.MAX_IMAGE_PIXELS = None  # the limits are checked below, before any pixel is decoded
    with ExitStack() as stack:
        with damage_refused():
            stream = stack.enter_context(source.open())
            head = stream.read(HEAD)
            if not is_image(head):
                raise Refused(f"not_an_image: {described(head)}; read are {', '.join(FORMATS)}")
            stream.seek(0)
            coding = coding_of(stream)
            file = stack.enter_context(Image.open(stream, formats=FORMATS))
            if coding.bit_depth is None:
                coding = replace(coding, bit_depth=_bits(file))
            if _is_preview(file, head):
                raise Refused("not_an_image: a camera's raw file, in which only a preview could be read")
            limits.check_picture(*file.size)
            frames = getattr(file, "n_frames", 1) - _is_hidden_first(file)
        yield Opened(source, file, coding, frames)


def _is_hidden_first(file: Image.Image) -> bool:
    return bool(file.info.get("default_image"))


def _is_preview(file: Image.Image, head: bytes) -> bool:
    """Whether a TIFF is a camera's raw file (DNG, NEF, ARW, CR2): its first picture is said to be a smaller one."""
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return False
    return head[8:10] == b"CR" or bool(file.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1)


def _bits(file: Image.Image) -> int:
    """Bits a value, of which a TIFF states any number."""
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return 8
    return int(file.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0])


_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE = 254, 258
"""TIFF 6.0, section 8."""


def is_animation(source: Source, limits: Limits) -> bool:
    """Whether an image file moves. Raises Refused."""
    with opened(source, limits) as image:
        return image.is_animation


def open_picture(source: Source, limits: Limits, draft: int | None = None) -> tuple[Image.Image, Facts]:
    """(upright sRGB picture, facts). Raises Refused.

    Of an animation the first frame that is not blank. `draft`: a JPEG may be decoded smaller, its shorter side at least
    this long; the facts are then of the smaller one.
    """
    with opened(source, limits) as image, damage_refused():
        if draft is not None:
            image.file.draft("RGB", (draft, draft))
            picture = _first_seen(image) if image.is_animation else _still(image, image.file)
        else:
            picture = _examined(image, source)
        return picture, image.facts(*picture.size)


def _examined(image: Opened, source: Source) -> Image.Image:
    """The picture; what is wrong with its bytes is noted."""
    file = image.file
    with source.open() as stream:
        if file.format == "JPEG":
            pixels, found = decode_jpeg(stream.read(), file)
            image.damage.note(found, None)
            if pixels is not None:
                info, file = file.info, Image.fromarray(pixels)
                file.info = info
        else:
            image.damage.note(complaints(stream, source.size, file, image.is_animation), None)
    return _first_seen(image) if image.is_animation else _still(image, file)


def _still(image: Opened, file: Image.Image) -> Image.Image:
    """The upright sRGB picture over white, from all of its bits where they count."""
    deep = _deep(image)
    return srgb(file, image.coding) if deep is None else deep


def _deep(image: Opened) -> Image.Image | None:
    """The picture from all of its bits, where its code points ask for a conversion and it has no alpha."""
    file, coding = image.file, image.coding
    how = conversion(coding.transfer, coding.primaries)
    if how is None or file.format not in DEMUXERS or file.mode != "RGB" or file.has_transparency_data:
        return None
    if (file.format == "PNG" and coding.bit_depth != 16) or (file.format == "AVIF" and "icc_profile" in file.info):
        return None
    file.load()  # says what is damaged, which FFmpeg would hide
    values = deep_values(image.source, file.format, file.size)
    if values is None:
        return None
    picture = Image.fromarray(to_srgb(values, how))
    picture.getexif()[_ORIENTATION] = file.getexif().get(_ORIENTATION, 1)
    return ImageOps.exif_transpose(picture)


def _first_seen(image: Opened) -> Image.Image:
    first: Image.Image | None = None
    for number, frame in enumerate(image.shown()):
        picture = srgb(frame, image.coding)
        if not _is_blank(picture):
            return picture
        first = first or picture
        if number + 1 == FRAMES_SEEN:
            break
    assert first is not None
    return first


def _is_blank(picture: Image.Image) -> bool:
    return all(low == high for low, high in picture.getextrema())  # type: ignore[misc]


def open_layers(source: Source, limits: Limits, draft: int | None = None) -> tuple[Image.Image, Image.Image | None]:
    """(upright sRGB picture, its alpha where it has one) of a picture's first frame, not laid over anything."""
    with opened(source, limits) as image, damage_refused():
        if draft is not None:
            image.file.draft("RGB", (draft, draft))
        deep = None if image.is_animation else _deep(image)
        return _layers(image.file, image.coding) if deep is None else (deep, None)


def srgb(image: Image.Image, coding: Coding) -> Image.Image:
    """A frame of a file as upright sRGB, RGB, over white. Refused for values without a stated white."""
    picture, alpha = _layers(image, coding)
    if alpha is None:
        return picture
    return Image.composite(picture, Image.new("RGB", picture.size, "white"), alpha)


def _layers(image: Image.Image, coding: Coding) -> tuple[Image.Image, Image.Image | None]:
    image.load()
    profile = image.info.get("icc_profile")
    picture = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    if picture.mode.startswith("I;16"):
        picture = _eight_bits(picture, coding.bit_depth or 16)
    elif picture.mode in ("I", "F"):
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        raise Refused(f"no_white: its values are {kind}, and nothing says which of them is white")
    alpha = None
    if picture.has_transparency_data:
        alpha = picture.convert("RGBA").getchannel("A")
        picture = picture.convert("L" if picture.mode in ("L", "LA") else "RGBA")
    return _standard(picture, profile, coding), alpha


def _standard(picture: Image.Image, profile: bytes | None, coding: Coding) -> Image.Image:
    """RGB by what the file says of its colors: code points, else a profile, else PNG's gamma (PNG, section 4.3)."""
    if profile and not coding.outweighs_profile:
        return _by_profile(picture, profile)
    how = conversion(coding.transfer, coding.primaries)
    if how is not None:
        values = np.asarray(_rgb(picture)).astype(np.uint16) * 257
        return Image.fromarray(to_srgb(values, how))
    gamma = coding.gamma
    if gamma and abs(gamma / PLAIN_GAMMA - 1) > 0.05:
        levels = [round(255 * (level / 255) ** (PLAIN_GAMMA / gamma)) for level in range(256)]
        return _rgb(picture).point(levels * 3)
    return _rgb(picture)


_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}


def _by_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    """Converted by an ICC profile; as it is where the profile is broken or for another kind of picture."""
    try:
        known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES.get(known.profile.xcolor_space)
        if mode == "RGB" and picture.mode != "CMYK":
            picture = _rgb(picture)
        if picture.mode != mode or _is_srgb(known):
            return _rgb(picture)
        converted = ImageCms.profileToProfile(picture, known, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return _rgb(picture)
    assert converted is not None
    return converted


_SRGB = ImageCms.createProfile("sRGB")


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """sRGB under its own name: most profiles are, and the conversion would only round."""
    return ImageCms.getProfileDescription(profile).strip().startswith("sRGB")


def _profile_name(profile: bytes) -> str:
    """`icc:` and the name of a profile, as printable ASCII."""
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "icc:broken"
    return "icc:" + "".join(c if c.isascii() and c.isprintable() else "?" for c in name)[:64]


def _rgb(picture: Image.Image) -> Image.Image:
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _eight_bits(picture: Image.Image, bits: int) -> Image.Image:
    """A gray picture of up to 16 bits a value as one of 8."""
    values: npt.NDArray[np.uint16] = np.asarray(picture).astype(np.uint16)
    most = (1 << bits) - 1
    return Image.fromarray(((np.minimum(values, most).astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8))
