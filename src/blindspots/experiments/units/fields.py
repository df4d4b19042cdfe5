"""What a table of units holds; imports nothing, so that light steps stay light."""

TOP = 10  # images of a direction, as in figures 1 to 4 of Szegedy et al. 2013
STATISTICS = ("purity", "entropy", "ref", "cosine", "pix", "beyond")
LARGEST = {"purity"}  # of the others the smallest is the most coherent
TAIL = "_q90"  # the value than which a tenth of the directions is more coherent
SUMMARIES = tuple(f"{name}{ending}" for name in STATISTICS for ending in ("", TAIL))

FIELDS = (
    *("network", "seed", "layer", "family", "statistic", "value"),
    *("null_mean", "null_sd", "z", "p", "bases", "directions", "dead"),
)
