"""What labels mean: a class of the data set, or whether an image is of the class that is sought."""

from blindspots.data.facts import class_number, facts_of_part


def facts_of_split(config, facts, split):
    """Return the facts of the images of a split; of one that is not known, those of the data."""
    return facts_of_part(facts, config["splits"]["parts"].get(split, {}))


def sought(config, facts, split):
    """Return the number of the class that a split is to be searched for; None for no class."""
    part = config["splits"]["parts"].get(split, {})
    return class_number(facts, part["detect"]) if "detect" in part else None


def part_problems(where, part, facts):
    """Yield what is wrong with a part of the data set that asks whether images are of a class."""
    if "detect" in part and class_number(facts, part["detect"]) is None:
        known = ", ".join(facts.names) if facts.names else f"0 to {facts.classes - 1}"
        if len(known) > 200:
            known = f"{known[:200]}..."
        yield f"{where}.detect: {facts.title} has no class {part['detect']!r}, only {known}"
    if "each" in part and "detect" not in part:
        yield f"{where}.each goes with detect, the class that so many images are of; add it"


def other_labels(where, model, config, facts, split):
    """Yield a sentence if a model has learned to tell something else than the labels of a split."""
    entry = config["models"][model]
    if "split" not in entry:
        return
    learned, asked = (sought(config, facts, name) for name in (entry["split"], split))
    if learned != asked:
        said = [
            "the class" if s is None else f"class {s} from all others" for s in (learned, asked)
        ]
        yield (
            f"{where}: {model} tells {said[0]}, and the labels of {split} tell {said[1]}; train it "
            "on a split with the same detect, or take it out"
        )


def shared_images(config, facts, one, other):
    """Return how many images two splits have in common before `each` leaves any out."""
    parts = config["splits"]["parts"]
    bases, spans = [], []
    for name in (one, other):
        part = parts.get(name, {"of": name, "share": [0, 1]})
        size = facts.sizes[part["of"]]
        bases.append(part["of"])
        spans.append(part.get("range") or [round(edge * size) for edge in part["share"]])
    (start, stop), (other_start, other_stop) = spans
    return max(0, min(stop, other_stop) - max(start, other_start)) * (bases[0] == bases[1])
