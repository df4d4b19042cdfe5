"""What variants of a given size have in common."""

LEVELS = {"$ref": "#/$defs/levels", "default": []}


def at_levels(kind, levels, clip):
    """Return a variant for each level and, where asked for, its clipped one behind it."""
    found = []
    for level in levels:
        found.append({"kind": kind, "level": level})
        if clip:
            found.append({"kind": kind, "level": level, "clip": True})
    return found


def name_with_level(variant):
    """Return the kind; clipped variants carry the level, since their RMS is what is left."""
    clipped = f"_clipped_{variant['level']:g}" if variant.get("clip") else ""
    return variant["kind"] + clipped


def clipped(variant, images):
    """Return images within [0, 1] if the variant is a clipped one."""
    return images.clamp(0, 1) if variant.get("clip") else images
