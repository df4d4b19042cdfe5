"""Images and labels of a user's own as arrays, checked before anything is computed from them.

There are ``train_images`` and ``test_images``, uint8 of shape (N, H, W) or (N, H, W, C) with one or
three channels, and ``train_labels`` and ``test_labels``, integers of shape (N,) from 0. There may
be ``classes``, the names of the classes as an array of str; other arrays are passed over. Classes
without names have a training image each: a gap in their numbers is a mistake. Of named ones some
may have none, as of the thousand classes of a network that was trained elsewhere.

Whoever holds the arrays, an archive or memory, tells shape and type of each without its values, so
that pixels stay unread: ``header(name, wanted)``, and ``read(name)`` for labels and names.
"""

from blindspots.data.facts import BASES, Facts
from blindspots.data.names import check_names, line, unless_numbers
from blindspots.errors import UserError

ARRAYS = tuple(f"{base}_{kind}" for base in BASES for kind in ("images", "labels"))
CLASSES = "classes"
CHANNELS = (1, 3)  # grey, or red, green and blue


def checked(where, title, names, header, read):
    """Check arrays, and return what is known of them without the pixels.

    Parameters
    ----------
    where : str or path-like
        What sentences begin with.
    title : str
        For captions.
    names : collection of str
        Of the arrays that there are: `ARRAYS`, and `CLASSES` where classes have names.
    header : callable
        ``header(name, wanted)`` returns shape and type of an array; it may refuse one, and say that
        it should be one of ``wanted``.
    read : callable
        ``read(name)`` returns an array.

    Returns
    -------
    Facts
        Without the content.

    Raises
    ------
    UserError
        If they are not as the head of this module describes.
    """
    sizes, shapes, labels = {}, {}, {}
    for base in BASES:
        name = f"{base}_images"
        sizes[base], shapes[base] = _image_shape(where, name, *_filled(where, name, header))
        labels[base] = _labels(where, base, sizes[base], header, read)
    if shapes["train"] != shapes["test"]:
        raise UserError(
            f"{where}: train_images are {_size(shapes['train'])} and test_images "
            f"{_size(shapes['test'])}; make all images alike"
        )
    classes = _class_names(where, header, read) if CLASSES in names else None
    if classes is None:
        highest = max(int(values.max()) for values in labels.values())
        count = highest + 1
    else:
        count = len(classes)
        for base in BASES:
            _check_below(where, f"{base}_labels", labels[base], count)
    if count < 2:
        raise UserError(f"{where} has a single class; a classifier needs two at least")
    if classes is None:
        _check_present(where, labels["train"], count)
    found = classes and unless_numbers(classes)
    return Facts(line(title), sizes, shapes["train"], count, names=found)


def channels_first(pixels):
    """Return images (N, H, W) or (N, H, W, C) as contiguous (N, C, H, W)."""
    import numpy as np

    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _filled(where, name, header, wanted="uint8"):
    """Return shape and type of an array that must hold something."""
    shape, dtype = header(name, wanted)
    if min(shape, default=1) < 1:
        raise UserError(f"{where}: {name} is empty, of shape {shape}; fill it")
    return shape, dtype


def _image_shape(where, name, shape, dtype):
    """Return the number of images and the shape of one, (C, H, W)."""
    if dtype != "uint8":
        remedies = {
            "f": "multiply by 255, if the largest is 1, round, and convert by .astype('uint8')",
            "b": "convert by .astype('uint8') and multiply by 255",
        }
        remedy = remedies.get(dtype.kind, "convert by .astype('uint8'), if all are 0 to 255")
        raise UserError(f"{where}: {name} is of type {dtype}, not uint8; {remedy}")
    if len(shape) not in (3, 4):
        raise UserError(
            f"{where}: {name} is of shape {shape}, not (N, H, W) or (N, H, W, C); reshape it"
        )
    count, height, width, channels = shape if len(shape) == 4 else (*shape, 1)
    if channels not in CHANNELS:
        what, remedy = f"has {channels} channels", "give one, grey, or three, RGB"
        if height in CHANNELS:
            what, remedy = "has the channels first", "move them by .transpose(0, 2, 3, 1)"
        elif channels == 4:
            remedy = "leave out the opacity by [..., :3]"
        raise UserError(f"{where}: {name}, of shape {shape}, {what}; {remedy}")
    return count, (channels, height, width)


def _labels(where, base, count, header, read):
    """Return the labels of a base set of so many images."""
    name = f"{base}_labels"
    shape, dtype = _filled(where, name, header, "integers")
    if dtype.kind not in "iu":
        raise UserError(
            f"{where}: {name} is of type {dtype}, not of an integer type; number the classes from 0"
        )
    if len(shape) != 1:
        raise UserError(
            f"{where}: {name} is of shape {shape}, not (N,); give one number for each image"
        )
    if shape[0] != count:
        raise UserError(
            f"{where}: there are {count} {base}_images and {shape[0]} {name}; give one label for "
            "each image"
        )
    labels = read(name)
    if labels.min() < 0:
        raise UserError(f"{where}: {name} has a label {labels.min()}; number the classes from 0")
    return labels


def _class_names(where, header, read):
    shape, dtype = _filled(where, CLASSES, header, "str")
    if dtype.kind != "U" or len(shape) != 1:
        raise UserError(
            f"{where}: classes is of type {dtype} and shape {shape}; give the names as an array of "
            "str, one for each class"
        )
    names = read(CLASSES).tolist()
    check_names(where, "in classes", names)
    return names


def _check_below(where, name, labels, classes):
    if labels.max() >= classes:
        raise UserError(
            f"{where}: {name} has a label {labels.max()}, but there are {classes} names in "
            "classes; number the classes from 0, and name all"
        )


def _check_present(where, labels, classes):
    """Raise UserError unless every class has a training image."""
    import numpy as np

    present = np.unique(labels)  # no more than there are images, whatever the largest label
    if len(present) < classes:
        places = np.arange(len(present))
        absent = int(np.append(places[present != places], len(present))[0])
        raise UserError(
            f"{where}: class {absent} of {classes} has no image in train_images; number the "
            "classes from 0 without gaps, and give each a training image"
        )


def _size(shape):
    channels, height, width = shape
    return f"{height} x {width} with {channels} channel{'s' * (channels > 1)}"
