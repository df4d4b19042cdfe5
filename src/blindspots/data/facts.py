"""What is known of a data set before any of it is computed with."""

from dataclasses import dataclass, replace

BASES = ("train", "test")


@dataclass(frozen=True)
class Facts:
    """Facts about a data set, from headers alone; checks of configurations ask these.

    Attributes
    ----------
    title : str
        Name in captions.
    sizes : dict of str to int
        Images in the base sets ``train`` and ``test``.
    shape : tuple of int
        Channels, height and width of an image.
    classes : int
    maximum : int
        Stored pixel value that stands for 1.
    names : list of str or None
        Of the classes, where they are no numbers.
    content : object
        What tells the content of files apart from any other, and what is made of it, for the
        specification: what JSON can hold; None where there are no files.
    """

    title: str
    sizes: dict
    shape: tuple
    classes: int = 10
    maximum: int = 255
    names: list | None = None
    content: object = None


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes
    ----------
    images : dict of str to numpy.ndarray of uint8, shape (N, C, H, W)
        For the base sets ``train`` and ``test``.
    labels : dict of str to numpy.ndarray of int64, shape (N,)
    facts : Facts
    """

    images: dict
    labels: dict
    facts: Facts


def class_number(facts, name):
    """Return the number of a class that is given by number or name; None if there is none.

    Parameters
    ----------
    facts : Facts
    name : int or str

    Returns
    -------
    int or None
    """
    if isinstance(name, int):
        return name if name < facts.classes else None
    return facts.names.index(name) if name in (facts.names or ()) else None


def facts_of_part(facts, part):
    """Return the facts of a part of a data set, which has two classes where one is detected.

    Parameters
    ----------
    facts : Facts
    part : dict
        A part as the configuration has it, or empty for a base set.

    Returns
    -------
    Facts
    """
    return replace(facts, classes=2, names=None) if "detect" in part else facts
