"""Pictures as images of a data set: what is read, how they are turned, resized and cropped.

A picture has eight bits a channel, grey or RGB. It is turned upright where its camera noted how it
was held (the orientation in its EXIF data), and so stands as viewers show it. Palettes become RGB,
opaque alpha channels are dropped, colour profiles are passed over.
"""

import warnings
from contextlib import contextmanager
from io import BytesIO

from blindspots.data.names import line
from blindspots.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA")
PNG_DEPTH = 24  # byte of a PNG that says how many bits a channel has
ORIENTATION = 0x0112  # tag of EXIF data
TURNS = {  # by its value; those from 5 on exchange width and height
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def describe(path, content):
    """Return what a picture is, from its header; checksums, where it has them, are compared.

    Parameters
    ----------
    path : str
        What sentences call it.
    content : bytes

    Returns
    -------
    width, height : int
        When it stands upright.
    channels : int
        1 or 3.

    Raises
    ------
    UserError
        If it is damaged, as far as that shows without its pixels, or of a kind that is not read.
    """
    with _told(path):
        picture = _opened(path, content)
        width, height = picture.size
        channels = 1 if picture.mode in GREY else 3
        orientation = _orientation(picture, content)
        if picture.has_transparency_data:
            opacity, _ = picture.convert("RGBA").getchannel("A").getextrema()
            if opacity < 255:
                raise UserError(
                    f"{path} has transparent pixels; put it on a background and save it without "
                    "an alpha channel"
                )
        elif picture.format == "PNG" and not _has_exif(picture, content):  # else it has been read
            picture.verify()
    return (height, width, channels) if orientation >= 5 else (width, height, channels)


def pixels(path, content, channels, resize=None, crop=None):
    """Read a picture of a kind that `describe` passes.

    Parameters
    ----------
    path : str
        What sentences call it.
    content : bytes
    channels : int
        1: colours become grey by their luma (ITU-R 601-2); 3: grey becomes three equal channels.
    resize : int, optional
        Length of the shorter side: bilinear with antialiasing, as ``torchvision.transforms.Resize``
        resizes pictures.
    crop : tuple of int, optional
        Height and width that are cut out of the middle then, as by
        ``torchvision.transforms.CenterCrop``; no larger than the picture.

    Returns
    -------
    ndarray of uint8, shape (channels, H, W)

    Raises
    ------
    UserError
        If it is damaged.
    """
    import numpy as np
    from PIL import Image

    with _told(path):
        picture = _opened(path, content)
        turn = TURNS.get(_orientation(picture, content))
        picture.load()
    picture = picture.transpose(Image.Transpose[turn]) if turn else picture
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGB")
    picture = picture.convert("L" if channels == 1 else "RGB")
    if resize:
        picture = picture.resize(resized(picture.size, resize), Image.Resampling.BILINEAR)
    if crop:
        sides = zip(picture.size, crop[::-1], strict=True)
        left, top = (round((side - part) / 2) for side, part in sides)
        picture = picture.crop((left, top, left + crop[1], top + crop[0]))
    values = np.asarray(picture)
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def resized(size, short):
    """Return width and height when the shorter side gets a length; the other is rounded down."""
    width, height = size
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _opened(path, content):
    """Open a picture without reading its pixels; refuse kinds that are not read."""
    from PIL import Image

    picture = Image.open(BytesIO(content), formats=FORMATS)
    # Cameras put several views of one scene into a JPEG; the first is meant.
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise UserError(
            f"{path} holds {picture.n_frames} pictures, one after another; save the one that is "
            "meant, alone"
        )
    if picture.mode not in (*GREY, *COLOUR):
        raise UserError(
            f"{path} has pixels of kind {picture.mode}; save it with 8 bits a channel, in grey or "
            "RGB"
        )
    if picture.format == "PNG" and content[PNG_DEPTH] == 16:
        raise UserError(f"{path} has 16 bits a channel; save it with 8")
    return picture


def _orientation(picture, content):
    """Return how a picture must be turned: a key of `TURNS`, or 1."""
    found = picture.getexif().get(ORIENTATION, 1) if _has_exif(picture, content) else 1
    return found if found in TURNS else 1


def _has_exif(picture, content):
    """Tell whether to look for EXIF data, for which all pixels of a PNG are read."""
    return picture.format != "PNG" or b"eXIf" in content


@contextmanager
def _told(path):
    """Make one sentence of whatever Pillow raises of a picture: damaged bytes lead it to any."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UserError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{path} is larger than any picture should be; resize it") from None
    except Exception as error:
        reason = line(str(error)).rstrip(".")
        if isinstance(error, OSError) and "identify" in reason:  # by an address in memory
            reason = f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise UserError(
            f"{path} is truncated, damaged or no picture ({reason}); save it again, or take it out"
        ) from None
