"""Pictures of a user's own as a data set: what is known before their pixels are read, and reading.

Planning needs facts and a digest of the content, of up to a million files. So what is known of each
is kept (`blindspots.data.index`), and a file is read again when it has changed. The digest knows
paths within the base sets, labels, names of the classes and bytes; neither dates nor places.
"""

import hashlib
import os

from blindspots.artifacts import canonical_json
from blindspots.data import pictures
from blindspots.data.facts import BASES, Dataset, Facts
from blindspots.data.index import Index, stamp
from blindspots.data.names import line, unless_numbers
from blindspots.errors import UserError
from blindspots.progress import Progress

READERS = (pictures.__file__, __file__)
CHANGED = (
    "is another file than snakemake saw when it planned this job; leave it alone and run again"
)


def planned(folder, listing, form):
    """Return what is known of pictures before their pixels are read.

    Parameters
    ----------
    folder : str
        Where they lie; its name is the title.
    listing : blindspots.data.picture_lists.Listing
    form : dict
        ``channels``, ``resize`` and ``crop`` where they are given, as for
        `blindspots.data.pictures.pixels`.

    Returns
    -------
    Facts
        Its content is the hexadecimal SHA-256 of the pictures.

    Raises
    ------
    UserError
        If a picture is missing, damaged or not read, or the images are not of one size.
    """
    digests, sizes = [], {}
    place = os.path.abspath(folder)
    with Index(f"pictures in {place}", READERS, ["pillow"]) as index:
        for _, _, _, path in listing.walk():
            digest, *size = _known(index, path)
            digests.append(digest)
            sizes.setdefault(tuple(size), path)  # the first of each
    return Facts(
        line(os.path.basename(place)),
        {base: len(listing.pictures[base]) for base in BASES},
        _common_shape(sizes, form),
        len(listing.classes),
        names=unless_numbers(listing.classes),
        content=_content(listing, digests),
    )


def load(listing, content, form):
    """Read the pictures that were planned for.

    Parameters
    ----------
    listing : blindspots.data.picture_lists.Listing
    content : str
        As of `planned`.
    form : dict
        As for `planned`, with the channels.

    Returns
    -------
    Dataset

    Raises
    ------
    UserError
        If a picture is missing, damaged, or not the one that was planned for.
    """
    import numpy as np

    labels = {b: np.array([n for _, n in listing.pictures[b]], np.int64) for b in BASES}
    images, digests, places = {}, [], {base: iter(range(len(labels[base]))) for base in BASES}
    progress = Progress("pictures", sum(map(len, labels.values())))
    for base, _, _, path in listing.walk():
        try:
            held = _bytes(path)
        except OSError as error:
            raise _unreadable(path, error) from None
        digests.append(hashlib.sha256(held).hexdigest())
        picture = pictures.pixels(path, held, **form)
        if not images:
            shape = picture.shape
            images = {b: np.empty((len(those), *shape), np.uint8) for b, those in labels.items()}
        if picture.shape != shape:
            raise UserError(f"{path} {CHANGED}")
        images[base][next(places[base])] = picture
        progress.report(len(digests))
    if _content(listing, digests) != content:
        raise UserError(
            f"{listing.places['test']}: the pictures are others than snakemake saw when it planned "
            "this job; leave them alone and run again"
        )
    names = unless_numbers(listing.classes)
    sizes = {base: len(those) for base, those in labels.items()}
    return Dataset(images, labels, Facts("", sizes, shape, len(listing.classes), names=names))


def _content(listing, digests):
    """Return the digest of a data set: its classes, and every picture with its label and bytes."""
    lines = [canonical_json(listing.classes)]
    pairs = zip(listing.walk(), digests, strict=True)
    lines += [f"{base}\0{name}\0{label}\0{digest}" for (base, name, label, _), digest in pairs]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _known(index, path):
    """Return digest, width, height and channels of a picture; read it unless that is known."""
    try:
        stamps = [stamp(path)]
        found = index.get(path, stamps)
        if found is not None:
            return found
        content = _bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    found = [hashlib.sha256(content).hexdigest(), *pictures.describe(path, content)]
    index.keep(path, stamps, found)
    return found


def _common_shape(sizes, form):
    """Return the shape that all images have in the end, (channels, height, width).

    Parameters
    ----------
    sizes : dict of (int, int, int) to str
        Width, height and channels that occur, and the first picture of each.
    """
    first = None
    resize, crop = form.get("resize"), form.get("crop")
    when = " when it is resized" if resize else ""
    for (*size, _), path in sizes.items():
        width, height = pictures.resized(size, resize) if resize else size
        if crop:
            if height < crop[0] or width < crop[1]:
                raise UserError(
                    f"{path} is {height} high and {width} wide{when}, less than the crop of "
                    f"{crop[0]} x {crop[1]}; say by `resize` how long the shorter side is to be"
                )
            height, width = crop
        first = first or (height, width, path)
        if (height, width) != first[:2]:
            raise UserError(
                f"{path} is {height} high and {width} wide{when}, {first[2]} {first[0]} and "
                f"{first[1]}; say by {'' if resize else '`resize` and '}`crop` how they become one "
                "size"
            )
    grey = all(channels == 1 for *_, channels in sizes)
    return form.get("channels") or (1 if grey else 3), *first[:2]


def _unreadable(path, error):
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing; put the picture there, or take it out of the list")
    return UserError(f"{path} cannot be read ({error.strerror})")


def _bytes(path):
    with open(path, "rb") as stream:
        return stream.read()
