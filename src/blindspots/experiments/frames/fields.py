"""Columns of a table of frame bounds; imports nothing, so that light steps stay light."""

FIELDS = (
    *("layer", "kind", "size", "lower", "power", "upper", "method"),
    *("bound", "shape", "sigma_max", "product", "init_lower", "init_upper"),
    *("module", "input", "stride", "groups"),
)
