"""What is wrong between the keys of a configuration, in sentences."""

from blindspots.data.facts import BASES
from blindspots.models.makers.registry import maker_of
from blindspots.study.detection import facts_of_split, part_problems
from blindspots.study.kinds import KINDS
from blindspots.study.sentences import unknown

RESERVED = ("clean", "noise")  # rows of the transfer table that have no source model
# Columns of tables beside those of the victims.
COLUMNS = ("distorted_for", "distortion", "stddev", "mean_distortion", "attacked", "failures")


def cross_problems(config, facts, reference_files):
    """Yield what is wrong between keys.

    Parameters
    ----------
    config : dict
        Each key of which is right by itself, with all defaults.
    facts : blindspots.data.facts.Facts
        Of its data set.
    reference_files : dict of str to list of str
        Names of the files with printed numbers, and the columns of each.
    """
    yield from _alike(config)
    yield from _splits(config["splits"], facts)
    yield from _models(config, facts)
    yield from _attacks(config, facts)
    run = config.get("run", [])
    for name in run:
        yield from unknown("run", "experiment", name, config["experiments"])
    for kind, plan in KINDS.items():
        entries = {n: e for n, e in config["experiments"].items() if e["kind"] == kind}
        yield from plan.problems(config, entries, facts, reference_files)


def _alike(config):
    """Yield names that some disks do not tell apart."""
    for where, names in {
        "models": config["models"],
        "splits.parts": [*BASES, *config["splits"]["parts"]],
        "attacks": config["attacks"],
        "experiments": config["experiments"],
        "tables": config["tables"],
        "figures.examples": config["figures"]["examples"],
    }.items():
        kept = {}
        for name in names:
            other = kept.setdefault(name.lower(), name)
            if other != name:
                yield (
                    f"{where}: {other} and {name} differ only in upper and lower case, which some "
                    "disks do not tell apart; rename one"
                )


def _splits(splits, facts):
    parts = splits["parts"]
    for name in BASES:
        if name in parts:
            yield f"splits.parts.{name}: the name of a base set is taken"
    intervals = {}
    for name, part in parts.items():
        where = f"splits.parts.{name}"
        if ("share" in part) == ("range" in part):
            yield f"{where} needs either share or range"
            continue
        yield from part_problems(where, part, facts)
        size = facts.sizes[part["of"]]
        if not size:  # told where the part is used
            continue
        start, stop = part.get("range") or [round(edge * size) for edge in part["share"]]
        if not start < stop <= size:
            yield f"{where}: it must start before it ends, within the {size} images of {part['of']}"
            continue
        intervals[name] = (part["of"], start, stop)
    intervals |= {base: (base, 0, size) for base, size in facts.sizes.items()}
    for number, group in enumerate(splits["disjoint"]):
        where = f"splits.disjoint[{number}]"
        for name in group:
            yield from unknown(where, "split", name, [*BASES, *parts])
        chosen = [(n, *intervals[n]) for n in group if n in intervals]
        for index, (one, base, start, stop) in enumerate(chosen):
            for other, other_base, other_start, other_stop in chosen[index + 1 :]:
                shared = min(stop, other_stop) - max(start, other_start)
                if base == other_base and shared > 0:
                    yield (
                        f"{where}: {one} and {other} share {shared} images of {base}; change their "
                        "share or range, or take the pair out of disjoint"
                    )


def _models(config, facts):
    splits, labels = [*BASES, *config["splits"]["parts"]], {}
    for name, model in config["models"].items():
        where = f"models.{name}"
        if name.lower() in RESERVED:
            yield f"{where}: the name is taken by rows without a source; choose another"
        if "split" in model:
            yield from unknown(f"{where}.split", "split", model["split"], splits)
        yield from maker_of(model).problems(where, model, config, facts)
    for name, model in config["models"].items():
        label = model.get("label", name)
        if label in labels:
            yield f"models.{name}.label: {label!r} is the label of {labels[label]} too"
        if label.replace(" ", "_") in COLUMNS or label.endswith("_printed"):
            yield f"models.{name}.label: {label!r} is a column of the tables; choose another label"
        labels[label] = name


def _attacks(config, facts):
    splits = [*BASES, *config["splits"]["parts"]]
    for name, attack in config["attacks"].items():
        where = f"attacks.{name}"
        yield from unknown(f"{where}.images", "split", attack["images"], splits)
        given, classes = (
            attack.get("given"),
            facts_of_split(config, facts, attack["images"]).classes,
        )
        if (attack["targets"] == "given") != (given is not None):
            yield f"{where}: targets given and the list given go together"
        elif given is not None and (
            len(given) != classes or any(t >= classes or t == i for i, t in enumerate(given))
        ):
            yield f"{where}.given must name another class for each of the {classes} classes"
