"""How many images are computed together where a configuration does not say."""

import math

MOST = 1000
NUMBERS = MOST * 3 * 32 * 32  # of all images of a chunk


def chunk_for(shape):
    """Return how many images of a shape are attacked or classified together.

    A thousand as long as they are small. What networks keep of larger ones, and the time that a
    chunk takes, grow with their numbers: of those a power of two, so that images of a few pixels
    more or less are computed alike.

    Parameters
    ----------
    shape : tuple of int
        Channels, height and width.

    Returns
    -------
    int
    """
    fitting = NUMBERS / math.prod(shape)
    return MOST if fitting >= MOST else 2 ** max(0, math.floor(math.log2(fitting)))
