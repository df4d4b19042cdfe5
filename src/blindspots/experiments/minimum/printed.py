"""The number that print gives for figure 5."""

import pandas as pd


def printed_distortion(path, quantity):
    """Return the printed value of a quantity, from the file of the paper's single numbers."""
    return float(pd.read_csv(path).set_index("quantity").loc[quantity, "value"])
