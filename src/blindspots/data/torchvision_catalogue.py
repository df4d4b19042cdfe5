"""Data sets in torchvision's layout as they were published; imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A published file.

    Attributes
    ----------
    path : str
        Below the data root.
    md5 : str
    images : int
    """

    path: str
    md5: str
    images: int = 0


@dataclass(frozen=True)
class Entry:
    """A data set as it was published.

    Attributes
    ----------
    title : str
        Name in captions.
    files : dict of str to tuple of File
        Of the base sets ``train`` and ``test``, in the order of the images.
    classes : int
    names : tuple of str or None
        Of the classes, where they are no numbers.
    form : str
        How a file of images is read: ``cifar`` or ``svhn``.
    meta : File or None
        The file of the names.
    labels, meta_names : str
        Where ``cifar`` keeps labels and names.
    """

    title: str
    files: dict
    classes: int
    names: tuple | None
    form: str
    meta: File | None = None
    labels: str = ""
    meta_names: str = ""


TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUNDRED = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR10, CIFAR100 = "cifar-10-batches-py", "cifar-100-python"
# MD5 as in torchvision.datasets.
CATALOGUE = {
    "CIFAR10": Entry(
        "CIFAR-10",
        {
            "train": (
                File(f"{CIFAR10}/data_batch_1", "c99cafc152244af753f735de768cd75f", 10000),
                File(f"{CIFAR10}/data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec", 10000),
                File(f"{CIFAR10}/data_batch_3", "54ebc095f3ab1f0389bbae665268c751", 10000),
                File(f"{CIFAR10}/data_batch_4", "634d18415352ddfa80567beed471001a", 10000),
                File(f"{CIFAR10}/data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb", 10000),
            ),
            "test": (File(f"{CIFAR10}/test_batch", "40351d587109b95175f43aff81a1287e", 10000),),
        },
        classes=10,
        names=TEN,
        form="cifar",
        meta=File(f"{CIFAR10}/batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
        labels="labels",
        meta_names="label_names",
    ),
    "CIFAR100": Entry(
        "CIFAR-100",
        {
            "train": (File(f"{CIFAR100}/train", "16019d7e3df5f24257cddd939b257f8d", 50000),),
            "test": (File(f"{CIFAR100}/test", "f0ef6b0ae62326f3e7ffdfab6717acfc", 10000),),
        },
        classes=100,
        names=tuple(HUNDRED.split()),
        form="cifar",
        meta=File(f"{CIFAR100}/meta", "7973b15100ade9c7d40fb424638fde48"),
        labels="fine_labels",
        meta_names="fine_label_names",
    ),
    "SVHN": Entry(
        "SVHN",
        {
            "train": (File("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 73257),),
            "test": (File("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 26032),),
        },
        classes=10,
        names=None,
        form="svhn",
    ),
}
