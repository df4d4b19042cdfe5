"""Arrays as text, for records: one bit for each image, or one number."""

from base64 import b64decode, b64encode

import numpy as np


def array_to_text(array):
    """Return the bytes of an array in base64; booleans are packed, eight to a byte."""
    array = np.packbits(array) if array.dtype == bool else np.ascontiguousarray(array)
    return b64encode(array.tobytes()).decode()


def text_to_bytes(text):
    """Return the bytes that `array_to_text` was given: packed bits, for booleans."""
    return np.frombuffer(b64decode(text, validate=True), np.uint8)


def text_to_bits(text, count):
    """Return the booleans that `array_to_text` was given; there are ``count`` of them."""
    return np.unpackbits(text_to_bytes(text), count=count).astype(bool)
