"""How many images are computed together where nobody says."""

import math

AUTO = "auto"
MOST = {"cpu": 1000, "cuda": 64000}
NUMBERS = 3 * 32 * 32  # of an image up to which so many are taken


def chunk_for(shape, device="cpu"):
    """Return how many images of a shape are attacked or classified together.

    On a CPU a thousand as long as they are small. What networks keep of larger ones, and the time
    that a chunk takes, grow with their numbers: of those a power of two, so that images of a few
    pixels more or less are computed alike. On a GPU 64 times as many: a thousand would leave it
    idle. Neither asks for the memory that is free, so that no other job changes a result.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width.
    device : str
        The type of a torch device.

    Returns
    -------
    int
    """
    most = MOST.get(device, MOST["cpu"])
    fitting = most * NUMBERS / math.prod(shape)
    return most if fitting >= most else 2 ** max(0, math.floor(math.log2(fitting)))


def chunk_of(given, images):
    """Return the chunk that a specification asks for, a number or ``auto``, for these images."""
    return chunk_for(images.shape[1:], images.device.type) if given == AUTO else given
