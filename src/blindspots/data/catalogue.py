"""What is known of each data set before it is read; imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Facts about a data set.

    Attributes
    ----------
    title : str
        Name in captions.
    sizes : dict of str to int
        Images in the base sets ``train`` and ``test``.
    side : int
        Images are side x side pixels, one channel.
    maximum : int
        Stored pixel value that stands for 1.
    classes : int
    folder : str
        Folder below the data root in torchvision's layout; empty if nothing is read from there.
    raw_md5 : dict of str to str
        MD5 of the uncompressed IDX files, where it has been published or measured.
    """

    title: str
    sizes: dict
    side: int = 28
    maximum: int = 255
    classes: int = 10
    folder: str = ""
    raw_md5: dict | None = None


BASES = ("train", "test")
IDX_FILES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
CATALOGUE = {
    "digits": Entry("UCI digits", {"train": 1297, "test": 500}, side=8, maximum=16),
    "mnist": Entry(
        "MNIST",
        {"train": 60000, "test": 10000},
        folder="MNIST",
        raw_md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion-mnist": Entry("Fashion-MNIST", {"train": 60000, "test": 10000}, folder="FashionMNIST"),
    "kmnist": Entry("KMNIST", {"train": 60000, "test": 10000}, folder="KMNIST"),
}
