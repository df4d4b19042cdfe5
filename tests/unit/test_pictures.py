"""Pictures: how they are read, turned, resized and cropped, and which are refused."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from blindspots.data.pictures import ORIENTATION, TURNS, describe, pixels, resized
from blindspots.errors import UserError

HEIGHT, WIDTH = 5, 7
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def saved(picture, form="PNG", **options):
    """Return a picture, or an array, as the bytes of a file."""
    stream = BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(stream, form, **options)
    return stream.getvalue()


def refused(content, reader=describe):
    with pytest.raises(UserError) as caught:
        reader("a.png", content)
    text = str(caught.value)
    assert text.startswith("a.png ") and "\n" not in text and "; " in text
    return text


LOSSLESS = {
    "png": (RGB, saved(RGB)),
    "bmp": (RGB, saved(RGB, "BMP")),
    "webp": (RGB, saved(RGB, "WEBP", lossless=True)),
    "grey png": (GREY, saved(GREY)),
    "grey bmp": (GREY, saved(GREY, "BMP")),
    "black and white": (np.where(GREY > 127, 255, 0), saved(Image.fromarray(GREY > 127))),
    "palette": (
        np.asarray(Image.fromarray(RGB).quantize(8).convert("RGB")),
        saved(Image.fromarray(RGB).quantize(8)),
    ),
    "opaque": (RGB, saved(np.dstack([RGB, np.full((HEIGHT, WIDTH), 255, np.uint8)]))),
    "opaque grey": (
        GREY,
        saved(Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (WIDTH, HEIGHT), 255)])),
    ),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_pixels_are_those_of_the_file(case):
    wanted, content = LOSSLESS[case]
    channels = 1 if wanted.ndim == 2 else 3
    assert describe("a", content) == (WIDTH, HEIGHT, channels)
    found = pixels("a", content, channels)
    assert found.dtype == np.uint8
    assert np.array_equal(found, wanted[None] if channels == 1 else wanted.transpose(2, 0, 1))


def test_jpeg():
    content = saved(RGB, "JPEG")
    assert describe("a", content) == (WIDTH, HEIGHT, 3)
    wanted = np.asarray(Image.open(BytesIO(content)))
    assert np.array_equal(pixels("a", content, 3), wanted.transpose(2, 0, 1))


def test_channels_that_are_asked_for():
    """Grey becomes three equal channels, colours become grey by their luma."""
    assert np.array_equal(pixels("a", saved(GREY), 3), np.stack([GREY] * 3))
    luma = RGB @ [0.299, 0.587, 0.114]
    assert np.abs(pixels("a", saved(RGB), 1)[0] - luma).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, *TURNS, 9])
def test_pictures_stand_upright(form, orientation):
    """As Pillow itself turns them by their EXIF data; what it does not know is left alone."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = saved(RGB, form, exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))))
    assert describe("a", content) == (*wanted.shape[1::-1], 3)
    assert np.array_equal(pixels("a", content, 3), wanted.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(60, 41), (41, 60), (50, 50), (33, 200), (20, 21)])
@pytest.mark.parametrize("resize", [None, 20, 32, 57])
@pytest.mark.parametrize("crop", [None, (20, 20), (13, 18)])
def test_resize_and_crop_are_those_of_torchvision(size, resize, crop):
    from blindspots.torchvision_import import import_with_torchvision

    transforms = import_with_torchvision("torchvision.transforms")
    values = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    picture = Image.fromarray(values)
    picture = transforms.Resize(resize)(picture) if resize else picture
    assert resize is None or resized(size, resize) == picture.size
    picture = transforms.CenterCrop(crop)(picture) if crop else picture
    wanted = np.asarray(picture).transpose(2, 0, 1)
    assert np.array_equal(pixels("a", saved(values), 3, resize, crop), wanted)


# What is refused ---------------------------------------------------------------------------------

CLEAR = np.dstack([RGB, GREY])


def chunk(kind, body):
    stream = BytesIO()
    PngImagePlugin.putchunk(stream, kind, body)
    return stream.getvalue()


def deep(channels):
    """Return a PNG with 16 bits a channel."""
    kind = {1: 0, 3: 2}[channels]
    rows = b"".join(b"\0" + bytes(2 * channels * WIDTH) for _ in range(HEIGHT))
    head = struct.pack(">2I5B", WIDTH, HEIGHT, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


FRAMES = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
WRONG = {
    "transparent": (saved(CLEAR), "has transparent pixels; put it on a background"),
    "transparent webp": (saved(CLEAR, "WEBP"), "has transparent pixels"),
    "transparent grey": (saved(Image.fromarray(RGB).convert("LA").point(lambda v: v // 2)), "tran"),
    "transparent colour": (saved(RGB, transparency=tuple(map(int, RGB[0, 0]))), "transparent"),
    "transparent palette": (saved(Image.fromarray(RGB).quantize(4), transparency=0), "transparent"),
    "16 bits, grey": (deep(1), "has pixels of kind I;16; save it with 8 bits a channel"),
    "16 bits, RGB": (deep(3), "has 16 bits a channel; save it with 8"),
    "CMYK": (saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "has pixels of kind CMYK"),
    "animation": (
        saved(FRAMES[0], save_all=True, append_images=FRAMES[1:]),
        "holds 2 pictures, one after another",
    ),
    "animated webp": (
        saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
        "holds 2 pictures",
    ),
    "gif": (saved(RGB, "GIF"), "no picture (not PNG, JPEG, BMP or WEBP)"),
    "text": (b"label,path\n", "is truncated, damaged or no picture (not PNG"),
    "nothing": (b"", "is truncated, damaged or no picture"),
    "a header": (saved(RGB)[:20], "is truncated, damaged or no picture"),
    "cut off": (saved(RGB)[:-20], "is truncated, damaged or no picture"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_pictures(case):
    content, said = WRONG[case]
    assert said in refused(content)


def test_picture_beyond_all_measure(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    assert "is larger than any picture should be; resize it" in refused(saved(RGB))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP"])
def test_damage_never_shows_a_traceback(form):
    """Wherever bytes are changed or missing, the picture is read or refused."""
    content = saved(np.tile(RGB, (4, 4, 1)), form)
    reads = [describe, lambda path, content: pixels(path, content, 3)]
    refusals = 0
    for place in np.random.default_rng(2).choice(len(content), 60):
        changed = bytearray(content)
        changed[place] ^= 0x55
        for damaged in (bytes(changed), content[:place]):
            for read in reads:
                try:
                    read("a.png", damaged)
                except UserError as error:
                    assert "\n" not in str(error)
                    refusals += 1
    assert refusals >= 60


def test_truncated_jpeg_is_refused_when_it_is_read():
    """Its header is whole."""
    content = saved(np.tile(RGB, (20, 20, 1)), "JPEG")[:-400]
    assert describe("a.png", content)[2] == 3
    assert "truncated" in refused(content, lambda path, content: pixels(path, content, 3))
