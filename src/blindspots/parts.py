"""Parts of an adversarial set, which several jobs make at the same time."""


def part_spec(spec, number, count):
    """Return the specification of the job that makes one of so many parts of a set."""
    return {**spec, "part": [number, count]}


def part_of(images, chunk, number, count):
    """Return which of so many images a part holds, as a slice that begins and ends with a chunk.

    So every image is attacked together with the same others as without parts, and gets the same
    bytes. Where there are more parts than chunks, some are empty.
    """
    chunks = -(-images // chunk)
    first, last = (chunk * (n * chunks // count) for n in (number, number + 1))
    return slice(first, min(last, images))
