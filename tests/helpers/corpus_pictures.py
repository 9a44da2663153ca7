"""The corpus' pictures: formats, modes, depths, orientations, profiles, animations, damage."""

import struct
import zlib

import numpy as np
from corpus_case import BL, BR, HEIGHT, TL, TR, WIDTH, Case, refused
from grading import BT709, BT2020, HLG, NCL, P3, PQ, TV, coded, light_of, signal, to_xyz
from odd_media import cut, film, picture, pictures
from odd_pictures import animation, in_profile, png, profile, turned
from PIL import Image, ImageCms

WHITE = (255, 255, 255)
BEST = {
    "jpg": {"quality": 95, "subsampling": "4:4:4"},
    "jpeg": {"quality": 95},
    "jfif": {"quality": 95},
    "webp": {"quality": 95},
    "avif": {"quality": 95, "subsampling": "4:4:4"},
}
FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "tiff": "TIFF"}


def whole():
    """The picture of every case."""
    return picture(0, WIDTH, HEIGHT)


def luma(image):
    """Grey, as Pillow makes it."""
    return np.asarray(Image.fromarray(image).convert("L"))


def greys():
    """The corners' greys."""
    return tuple((round(0.299 * r + 0.587 * g + 0.114 * b),) * 3 for r, g, b in (TL, TR, BL, BR))


def save(path, image, **how):
    """Write a Pillow picture in the format of the name's ending."""
    kind = path.suffix[1:]
    image.save(path, FORMATS.get(kind, kind.upper()), **{**BEST.get(kind, {}), **how})


def turnings():
    """All EXIF orientations in every format that has EXIF."""
    for kind in ("jpg", "png", "webp", "tif", "avif"):
        for orientation in range(1, 9):

            def make(path, orientation=orientation):
                stored, exif = turned(whole(), orientation)
                save(path, stored, exif=exif)

            yield Case(f"exif{orientation}.{kind}", make)
    yield Case("exif-odd.jpg", lambda path: save(path, Image.fromarray(whole()), exif=_orientation(77)))
    yield Case(
        "exif-broken.jpg", lambda path: save(path, Image.fromarray(whole()), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    )


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def modes():
    """Every mode of Pillow's in the formats that hold it."""
    for mode, kinds in {
        "RGB": "jpg jpeg png webp gif bmp tif tiff avif jfif",
        "L": "jpg png bmp tif gif webp avif",
        "LA": "png tif webp",
        "P": "png gif bmp tif",
        "RGBA": "png webp tif avif gif bmp",
        "CMYK": "jpg tif",
        "YCbCr": "jpg tif",
        "LAB": "tif",
    }.items():
        grey = mode in ("L", "LA")
        for kind in kinds.split():

            def make(path, mode=mode):
                save(path, _in(mode))

            corners = greys() if grey else (TL, TR, BL, BR)
            yield Case(f"mode-{mode}.{kind}", make, corners=corners, within=24)
    for name, how in {
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_rows": 1},
        "420": {"subsampling": "4:2:0"},
        "422": {"subsampling": "4:2:2"},
        "kept-rgb": {"keep_rgb": True, "subsampling": "4:4:4"},
    }.items():
        yield Case(f"jpeg-{name}.jpg", lambda path, how=how: save(path, Image.fromarray(whole()), **how), within=10)
    for name in ("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield Case(f"tiff-{name}.tif", lambda path, name=name: Image.fromarray(whole()).save(path, compression=name))
    yield Case("tiff-big.tif", lambda path: Image.fromarray(whole()).save(path, big_tiff=True))
    yield Case("tiff-pages.tif", _pages, facts={"frames": 3})
    yield Case("interlaced.gif", lambda path: Image.fromarray(whole()).save(path, interlace=1), within=24)
    yield Case(
        "adobe-cmyk.jpg", lambda path: Image.fromarray(whole()).convert("CMYK").save(path, quality=95), within=24
    )


def _in(mode):
    image = Image.fromarray(whole())
    if mode == "P":
        return image.quantize(256)
    if mode == "LAB":
        spaces = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        return ImageCms.profileToProfile(image, *spaces, outputMode="LAB")
    return image.convert(mode)


def _pages(path):
    first, *others = (Image.fromarray(image) for image in pictures(3, WIDTH, HEIGHT))
    first.save(path, save_all=True, append_images=others)


def depths():
    """Ten to sixteen bits, float, bilevel."""
    sixteen = whole().astype(np.uint16) * 257
    grey = luma(whole()).astype(np.uint16) * 257
    for name, values, colour in (("rgb16", sixteen, 2), ("grey16", grey[..., None], 0),
                                 ("greyalpha16", np.dstack([grey, np.full_like(grey, 65535)]), 4),
                                 ("rgba16", np.dstack([sixteen, np.full_like(grey, 65535)]), 6)):  # fmt: skip
        corners = greys() if "grey" in name else (TL, TR, BL, BR)
        yield Case(f"{name}.png", lambda path, values=values, colour=colour: path.write_bytes(
            png(values, depth=16, colour=colour)), corners=corners, within=2, facts={"bit_depth": 16})  # fmt: skip
    for order in "<>":
        for planes in (1, 3, 4):
            values = {1: grey[..., None], 3: sixteen, 4: np.dstack([sixteen, np.full_like(grey, 65535)])}[planes]
            corners = greys() if planes == 1 else (TL, TR, BL, BR)
            name = f"{'le' if order == '<' else 'be'}{planes}x16.tif"
            yield Case(name, lambda path, values=values, order=order: path.write_bytes(tiff(values, order)),
                       corners=corners, within=2, facts={"bit_depth": 16})  # fmt: skip
    yield refused("float.tif", lambda path: Image.fromarray(whole()[..., 0].astype(np.float32)).save(path), "no_white")
    yield refused("int.tif", lambda path: Image.fromarray(whole()[..., 0].astype(np.int32)).save(path), "no_white")
    yield Case("white-is-zero.tif", lambda path: path.write_bytes(tiff(255 - luma(whole())[..., None], "<", white=0)),
               corners=greys(), within=2)  # fmt: skip


def tiff(values, order, white=1, preview=0):
    """A TIFF of [H, W, C] values of 8 or 16 bits; `preview`: it says that it is a smaller picture of another."""
    height, width, planes = values.shape
    bits = values.dtype.itemsize * 8
    data = values.astype(f"{order}u{bits // 8}").tobytes()
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * planes), (259, 3, [1]), (277, 3, [planes])]
    tags += [(262, 3, [2 if planes > 2 else white]), (278, 3, [height]), (279, 4, [len(data)])]
    if preview:
        tags.append((254, 4, [1]))
    if planes == 4:
        tags.append((338, 3, [2]))
    count = len(tags) + 1
    extra_at = 8 + 2 + 12 * count + 4
    extra, entries = b"", []
    for tag, kind, listed in sorted([*tags, (273, 4, [0])]):
        raw = struct.pack(f"{order}{len(listed)}{'H' if kind == 3 else 'I'}", *listed)
        if len(raw) > 4:
            raw, extra = struct.pack(order + "I", extra_at + len(extra)), extra + raw
        entries.append([tag, kind, len(listed), raw.ljust(4, b"\0")])
    start = extra_at + len(extra)
    for entry in entries:
        if entry[0] == 273:
            entry[3] = struct.pack(order + "I", start)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", count)
    listed = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + listed + bytes(4) + extra + data


def colours():
    """Profiles, code points and gamma."""
    for kind in ("jpg", "png", "webp", "tif", "avif"):
        for name in ("p3", "adobe", "srgb"):
            yield Case(f"{name}.{kind}", lambda path, name=name: save(
                path, Image.fromarray(in_profile(whole(), name)), icc_profile=profile(name)))  # fmt: skip
        yield Case(f"grey-profile.{kind}", lambda path: save(
            path, Image.fromarray(whole()), icc_profile=profile("grey", b"GRAY")))  # fmt: skip
        yield Case(
            f"broken-profile.{kind}", lambda path: save(path, Image.fromarray(whole()), icc_profile=b"none" * 40)
        )
    for transfer, word in ((PQ, "smpte2084"), (HLG, "arib-std-b67"), (BT709, "bt709")):
        for primaries in (BT2020, P3):
            for depth in (8, 16):
                name = f"cicp-{word}-{primaries}-{depth}.png"
                yield Case(name, lambda path, how=(transfer, primaries, depth): path.write_bytes(cicp(*how)),
                           facts={"transfer": word, "bit_depth": depth}, within=4 if depth == 16 else 12)  # fmt: skip
    for transfer, primaries, word in ((PQ, BT2020, "smpte2084"), (HLG, BT2020, "arib-std-b67"), (BT709, P3, "bt709")):
        yield Case(f"hdr-{word}.avif", lambda path, how=(transfer, primaries): avif(path, *how), 128, 96, within=5,
                   facts={"transfer": word, "bit_depth": 10})  # fmt: skip
    gamma = struct.pack(">I", 100_000)
    yield Case("gamma.png", lambda path: path.write_bytes(
        png(np.round(255 * light_of(whole())).astype(np.uint8), chunks=[(b"gAMA", gamma)])))  # fmt: skip


def avif(path, transfer, primaries):
    """An AVIF of 10 bits."""
    frame = coded(picture(0), transfer, primaries).reformat(format="yuv420p10le")
    how = {"codec": "libsvtav1", "pixels": "yuv420p10le", "container": "avif", "width": 128, "height": 96}
    film(path, [frame], colours=(NCL, transfer, primaries, TV), options={"crf": "4", "preset": "8"}, **how)


def cicp(transfer, primaries, depth):
    """A PNG whose code points say what its values are."""
    light = np.clip(light_of(whole()) @ (np.linalg.inv(to_xyz(primaries)) @ to_xyz(BT709)).T, 0, None)
    most = (1 << depth) - 1
    values = np.round(np.clip(signal(light, transfer), 0, 1) * most)
    values = values.astype(np.uint16 if depth == 16 else np.uint8)
    return png(values, depth=depth, chunks=[(b"cICP", bytes([primaries, transfer, 0, 1]))])


def clear():
    """Transparency lies over white: the right half of each is clear."""
    rgba = np.dstack([whole(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    rgba[:, WIDTH // 2 :, 3] = 0
    corners = (TL, WHITE, BL, WHITE)
    for kind, how in {"png": {}, "webp": {"lossless": True}, "avif": {}, "tif": {}, "gif": {}}.items():
        yield Case(f"clear.{kind}", lambda path, how=how: save(path, Image.fromarray(rgba), **how), corners=corners,
                   within=24)  # fmt: skip
    palette = Image.fromarray(rgba).quantize(64, method=Image.Quantize.FASTOCTREE)
    yield Case("clear-palette.png", palette.save, corners=corners, within=60)
    black = Image.fromarray(np.where(np.arange(WIDTH)[None, :, None] < WIDTH // 2, whole(), 1).astype(np.uint8))
    yield Case("clear-colour.png", lambda path: black.save(path, transparency=(1, 1, 1)), corners=corners)


def animations():
    """Each is one image, unless it is said that it is a video."""
    blank = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for kind in ("gif", "webp", "png", "avif"):
        yield Case(f"moves.{kind}", lambda path: animation(path, pictures(4, WIDTH, HEIGHT), 100), within=24,
                   facts={"frames": 4})  # fmt: skip
        yield Case(f"blank-first.{kind}", lambda path: animation(path, [blank, *pictures(3, WIDTH, HEIGHT)], 100),
                   within=24, facts={"frames": 4})  # fmt: skip
    for disposal in (0, 1, 2, 3):
        yield Case(f"disposal{disposal}.gif", lambda path, disposal=disposal: animation(
            path, pictures(3, WIDTH, HEIGHT), 100, disposal=disposal), within=24, facts={"frames": 3})  # fmt: skip
    yield Case("hidden.png", lambda path: animation(
        path, [blank, *pictures(3, WIDTH, HEIGHT)], 100, default_image=True), facts={"frames": 3},
               within=8)  # fmt: skip
    yield Case("lossless.webp", lambda path: animation(path, pictures(3, WIDTH, HEIGHT), 100, lossless=True), within=2)
    yield Case("views.mpo.jpg", lambda path: Image.fromarray(whole()).save(
        path, "MPO", save_all=True, append_images=[Image.fromarray(blank)], quality=95))  # fmt: skip


def damaged():
    """Cut, empty, and something else."""
    for kind in ("jpg", "png", "webp", "gif", "bmp", "tif", "avif"):

        def make(path):
            save(path, Image.fromarray(_noise()))
            cut(path, 0.6)

        yield refused(f"half.{kind}", make, "corrupt")
        yield refused(f"nothing.{kind}", lambda path: path.write_bytes(b""), "not_an_image")
        yield refused(f"text.{kind}", lambda path: path.write_text("<html>404</html>"), "not_an_image")

    def progressive(path):
        save(path, Image.fromarray(_noise()), progressive=True)
        cut(path, 0.6)

    yield refused("half-progressive.jpg", progressive, "corrupt")
    for name, head, what in (
        ("vector.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text"),
        ("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("photograph.jpg", b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        ("new.jpg", b"\xff\x0a\xfa\x7f", "JPEG XL"),
        ("raw.tif", b"\0\0\0\x18ftypcrx \0\0\0\1crx ", "a camera's raw file"),
        ("page.webp", b"%PDF-1.7\n", "PDF"),
        ("pixels.png", b"P6 1 1 255\n\0\0\0", "a portable bitmap"),
        ("zeros.jpg", bytes(5000), "a file of zeros"),
    ):
        yield refused(name, lambda path, head=head: path.write_bytes(head.ljust(64, b"\0")), f"not_an_image: {what}")
    preview = tiff(whole(), "<", preview=1)
    yield refused("preview.tif", lambda path: path.write_bytes(preview), "not_an_image: a camera's raw file")
    yield refused("film.jpg", lambda path: film(path, pictures(2, WIDTH, HEIGHT), container="mp4"),
                  "not_an_image: a video")  # fmt: skip
    bomb = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
        for k, d in ((b"IHDR", bomb), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")))  # fmt: skip
    yield refused("bomb.png", lambda path: path.write_bytes(data), "too_many_pixels")


def _noise():
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
