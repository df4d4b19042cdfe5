"""What is known of MNIST and its family before a file is read; imports nothing heavy."""

from dataclasses import dataclass

from blindspots.data.facts import Facts


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
        Folder below the data root in torchvision's layout.
    raw_md5 : dict of str to str
        MD5 of the uncompressed IDX files, where it has been published or measured; files with
        another are refused.
    archive_md5 : dict of str to str
        MD5 of the published archives, where only these have been published.
    """

    title: str
    sizes: dict
    side: int = 28
    maximum: int = 255
    classes: int = 10
    folder: str = ""
    raw_md5: dict | None = None
    archive_md5: dict | None = None


IDX_FILES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
CATALOGUE = {
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
    "fashion-mnist": Entry(
        "Fashion-MNIST",
        {"train": 60000, "test": 10000},
        folder="FashionMNIST",
        archive_md5={
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "kmnist": Entry(
        "KMNIST",
        {"train": 60000, "test": 10000},
        folder="KMNIST",
        archive_md5={
            "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
            "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
            "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
            "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
        },
    ),
}


def facts_of(name):
    """Return the facts of a data set, which its files are checked against."""
    entry = CATALOGUE[name]
    shape = (1, entry.side, entry.side)
    return Facts(entry.title, entry.sizes, shape, entry.classes, entry.maximum)
