"""A user's images and labels in a NumPy archive, checked before anything is computed from them.

The archive holds ``train_images`` and ``test_images``, uint8 of shape (N, H, W) or (N, H, W, C)
with one or three channels, and ``train_labels`` and ``test_labels``, integers of shape (N,) from 0.
It may hold ``classes``, the names of the classes as an array of str; other arrays are passed over.
Classes without names have a training image each: a gap in their numbers is a mistake. Of named ones
some may have none, as of the thousand classes of a network that was trained elsewhere.

Planning needs the facts, so they come from the headers of the arrays, and the pixels stay packed.
"""

import hashlib
import lzma
import math
import os
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blindspots.data.facts import BASES
from blindspots.errors import UserError

ARRAYS = tuple(f"{base}_{kind}" for base in BASES for kind in ("images", "labels"))
MAXIMUM = 255  # of uint8
CHANNELS = (1, 3)  # grey, or red, green and blue
# Control characters, line ends, changes of direction, and what is no character.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
# What zipfile, zlib and numpy raise of bytes that are not an archive's.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class NpzFacts:
    """What is known of an archive before its pixels are read.

    Attributes
    ----------
    title : str
        The file's name without its ending, for captions.
    sizes : dict of str to int
        Images in the base sets ``train`` and ``test``.
    shape : tuple of int
        Shape of one image, (channels, height, width).
    classes : int
    class_names : list of str
        As given, or the labels in digits.
    maximum : int
        Stored pixel value that stands for 1.
    content : str
        Hexadecimal SHA-256 of the file.
    """

    title: str
    sizes: dict
    shape: tuple
    classes: int
    class_names: list
    maximum: int
    content: str


def facts(path):
    """Check an archive and return what is known of it, without reading the pixels.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    NpzFacts

    Raises
    ------
    UserError
        If it cannot be read, or is not as the head of this module describes.
    """
    with _archive(path) as (archive, content):
        missing = [name for name in ARRAYS if f"{name}.npy" not in archive.namelist()]
        if missing:
            raise UserError(
                f"{path} holds no array {' or '.join(missing)}; save {', '.join(ARRAYS)} under "
                "these names, by numpy.savez_compressed"
            )
        sizes, shapes, labels = {}, {}, {}
        for base in BASES:
            sizes[base], shapes[base] = _image_shape(path, archive, f"{base}_images")
            labels[base] = _labels(path, archive, base, sizes[base])
        if shapes["train"] != shapes["test"]:
            raise UserError(
                f"{path}: train_images are {_size(shapes['train'])} and test_images "
                f"{_size(shapes['test'])}; make all images alike"
            )
        names = _class_names(path, archive) if "classes.npy" in archive.namelist() else None
    if names is None:
        classes = 1 + max(int(values.max()) for values in labels.values())
    else:
        classes = len(names)
        for base in BASES:
            _check_below(path, f"{base}_labels", labels[base], classes)
    if classes < 2:
        raise UserError(f"{path} has a single class; a classifier needs two at least")
    if names is None:
        _check_present(path, labels["train"], classes)
    return NpzFacts(
        title=_line(Path(path).stem),
        sizes=sizes,
        shape=shapes["train"],
        classes=classes,
        class_names=names or [str(number) for number in range(classes)],
        maximum=MAXIMUM,
        content=content,
    )


def load(path, expected_content):
    """Read the images and labels of an archive that `facts` has checked.

    Parameters
    ----------
    path : path-like
    expected_content : str
        `NpzFacts.content` of the archive that was planned for.

    Returns
    -------
    images : dict of str to numpy.ndarray of uint8, shape (N, C, H, W)
        For the base sets ``train`` and ``test``; contiguous.
    labels : dict of str to numpy.ndarray of int64, shape (N,)

    Raises
    ------
    UserError
        If the file cannot be read, is damaged, or is not the one that was planned for.
    """
    import numpy as np

    images, labels = {}, {}
    with _archive(path) as (archive, content):
        if content != expected_content:
            raise UserError(
                f"{path} is another file than snakemake saw when it planned this job; leave it "
                "alone and run again"
            )
        for base in BASES:
            pixels = _read(archive, f"{base}_images")
            pixels = pixels[..., None] if pixels.ndim == 3 else pixels
            images[base] = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
            labels[base] = _read(archive, f"{base}_labels").astype(np.int64)
    return images, labels


@contextmanager
def _archive(path):
    """Open an archive with the digest of its bytes; of what damage raises inside, make a sentence.

    Digest and arrays come from one open file, which a rename over it does not exchange.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is not a file; give the .npz file itself")
    try:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
            with zipfile.ZipFile(stream) as archive:
                yield archive, content
    except FileNotFoundError:
        raise UserError(f"{path} is missing; put the .npz file there or correct the path") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except DAMAGE as error:
        raise UserError(
            f"{path} is truncated, damaged or no .npz file ({_line(str(error)).rstrip('.')}); "
            "save it again by numpy.savez_compressed"
        ) from None


def _line(text):
    """Return a text as one line; what cannot be written is a question mark."""
    return UNWRITABLE.sub("?", " ".join(text.split()))


def _header(path, archive, name, wanted):
    """Return the shape and type of an array; what is wrong with it is named beside the wanted."""
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with archive.open(f"{name}.npy") as member:
        version = npy.read_magic(member)
        if version not in readers:
            raise ValueError(f"{name} is of version {version} of the format, which is not read")
        shape, _, dtype = readers[version](member)
        start = member.tell()
    if dtype.hasobject:
        raise UserError(
            f"{path}: {name} is a pickle of Python objects, which may run code; save it as an "
            f"array of {wanted}"
        )
    held = archive.getinfo(f"{name}.npy").file_size - start
    if held != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {held} bytes, which are not those of shape {shape}")
    if min(shape, default=1) < 1:
        raise UserError(f"{path}: {name} is empty, of shape {shape}; fill it")
    return shape, dtype


def _read(archive, name):
    from numpy.lib import format as npy

    with archive.open(f"{name}.npy") as member:
        return npy.read_array(member, allow_pickle=False)


def _image_shape(path, archive, name):
    """Return the number of images and the shape of one, (C, H, W)."""
    shape, dtype = _header(path, archive, name, "uint8")
    if dtype != "uint8":
        remedies = {
            "f": "multiply by 255, if the largest is 1, round, and convert by .astype('uint8')",
            "b": "convert by .astype('uint8') and multiply by 255",
        }
        remedy = remedies.get(dtype.kind, "convert by .astype('uint8'), if all are 0 to 255")
        raise UserError(f"{path}: {name} is of type {dtype}, not uint8; {remedy}")
    if len(shape) not in (3, 4):
        raise UserError(
            f"{path}: {name} is of shape {shape}, not (N, H, W) or (N, H, W, C); reshape it"
        )
    count, height, width, channels = shape if len(shape) == 4 else (*shape, 1)
    if channels not in CHANNELS:
        what, remedy = f"has {channels} channels", "give one, grey, or three, RGB"
        if height in CHANNELS:
            what, remedy = "has the channels first", "move them by .transpose(0, 2, 3, 1)"
        elif channels == 4:
            remedy = "leave out the opacity by [..., :3]"
        raise UserError(f"{path}: {name}, of shape {shape}, {what}; {remedy}")
    return count, (channels, height, width)


def _labels(path, archive, base, count):
    """Return the labels of a base set of so many images."""
    name = f"{base}_labels"
    shape, dtype = _header(path, archive, name, "integers")
    if dtype.kind not in "iu":
        raise UserError(
            f"{path}: {name} is of type {dtype}, not of an integer type; number the classes from 0"
        )
    if len(shape) != 1:
        raise UserError(
            f"{path}: {name} is of shape {shape}, not (N,); give one number for each image"
        )
    if shape[0] != count:
        raise UserError(
            f"{path}: there are {count} {base}_images and {shape[0]} {name}; give one label for "
            "each image"
        )
    labels = _read(archive, name)
    if labels.min() < 0:
        raise UserError(f"{path}: {name} has a label {labels.min()}; number the classes from 0")
    return labels


def _class_names(path, archive):
    shape, dtype = _header(path, archive, "classes", "str")
    if dtype.kind != "U" or len(shape) != 1:
        raise UserError(
            f"{path}: classes is of type {dtype} and shape {shape}; give the names as an array of "
            "str, one for each class"
        )
    names = _read(archive, "classes").tolist()
    for number, name in enumerate(names):
        if not name.strip():
            raise UserError(f"{path}: the name of class {number} in classes is empty; give it one")
        if UNWRITABLE.search(name):
            raise UserError(
                f"{path}: the name {name!r} in classes has control characters; write it "
                "on one line, without them"
            )
        if name in names[:number]:
            raise UserError(f"{path}: the name {name!r} is twice in classes; give each class one")
    return names


def _check_below(path, name, labels, classes):
    if labels.max() >= classes:
        raise UserError(
            f"{path}: {name} has a label {labels.max()}, but there are {classes} names in classes; "
            "number the classes from 0, and name all"
        )


def _check_present(path, labels, classes):
    """Raise UserError unless every class has a training image."""
    import numpy as np

    present = np.unique(labels)  # no more than there are images, whatever the largest label
    if len(present) < classes:
        places = np.arange(len(present))
        absent = int(np.append(places[present != places], len(present))[0])
        raise UserError(
            f"{path}: class {absent} of {classes} has no image in train_images; number the classes "
            "from 0 without gaps, and give each a training image"
        )


def _size(shape):
    channels, height, width = shape
    return f"{height} x {width} with {channels} channel{'s' * (channels > 1)}"
