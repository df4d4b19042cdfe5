"""What an experiment of kind transfer may hold, and what is wrong with one."""

from pathlib import Path

import yaml

from blindspots.data.facts import BASES
from blindspots.evaluation.variants.registry import VARIANTS
from blindspots.experiments.transfer.victim_seeds import OTHER
from blindspots.models.makers.registry import maker_of
from blindspots.study.attackable import no_gradient, other_images
from blindspots.study.detection import facts_of_split, other_labels, sought
from blindspots.study.sentences import unknown

CHANNELS = (1, 3)  # of images that are stored as files
ROW_NAMES = {"models": "model", "matrix": "distorted_for", "levels": "distortion"}


def schema():
    """Return the schema of an entry, with a key for each variant that has one."""
    path = Path(__file__).with_name("schema.yaml")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["properties"] |= {v.KEY: v.SCHEMA for v in VARIANTS.values() if v.KEY}
    return found


def problems(config, entries, facts, reference_files):
    """Yield what is wrong with experiments, and with the tables and figures that show them."""
    models, attacks = config["models"], config["attacks"]
    splits = [*BASES, *config["splits"]["parts"]]
    for name, experiment in entries.items():
        where = f"experiments.{name}"
        yield from unknown(f"{where}.attack", "attack", experiment["attack"], attacks)
        pool = attacks.get(experiment["attack"], {}).get("images")
        seen = facts_of_split(config, facts, pool)
        for key in ("sources", "victims"):
            for model in experiment.get(key, []):
                yield from unknown(f"{where}.{key}", "model", model, models)
                if model in models:
                    yield from other_images(f"{where}.{key}", model, models[model], seen)
                    yield from other_labels(f"{where}.{key}", model, config, facts, pool)
        for model in experiment["sources"]:
            if model in models:
                yield from no_gradient(f"{where}.sources", model, models[model])
        for split in experiment["clean"]:
            yield from unknown(f"{where}.clean", "split", split, splits)
            if sought(config, facts, split) != sought(config, facts, pool):
                yield f"{where}.clean: the labels of {split} are others than those of {pool}"
        yield from _stored(where, experiment, facts)
        yield from _victim_seeds(where, experiment, config)
        for key in ("amplify", "noise"):
            for level in experiment[key]:
                if float(f"{level:g}") != level:
                    yield (
                        f"{where}.{key}: level {level!r} has more than the six digits that names "
                        "hold; round it"
                    )
    yield from _tables(config["tables"], entries, reference_files)
    yield from _grids(config, entries, splits, facts)


def _victim_seeds(where, experiment, config):
    """Yield what keeps the sets of an experiment from victims of another seed."""
    if experiment["victim_seeds"] != OTHER:
        return
    if len(config["seeds"]) == 1:
        yield f"{where}.victim_seeds: there is no other seed than {config['seeds'][0]}; add seeds"
    if experiment["stored"]:
        yield (
            f"{where}.victim_seeds: stored images are shown to their own source, which has no "
            "other seed; write all, or take stored out"
        )
    for model in experiment["sources"]:
        entry = config["models"].get(model)
        alone = entry is not None and not maker_of(entry).seeded(entry)
        if alone and model in experiment.get("victims", experiment["sources"]):
            yield (
                f"{where}.victim_seeds: {model} is the same for every seed, so it has no other to "
                "be shown to; take it out of sources or victims"
            )


def _stored(where, experiment, facts):
    """Yield what keeps the images of an experiment from being stored and looked at."""
    if not experiment["stored"]:
        return
    if any("quality" in way for way in experiment["stored"]):
        yield from _no_picture(f"{where}.stored", facts)
    for source in experiment["sources"]:
        if source not in experiment.get("victims", experiment["sources"]):
            yield (
                f"{where}.victims: {source} is not among them, and its stored images are shown to "
                "itself; add it, or take stored out"
            )


def _no_picture(where, facts):
    """Yield a sentence if images of the data set cannot be written as PNG or JPEG."""
    if facts.shape[0] not in CHANNELS:
        yield (
            f"{where}: PNG and JPEG hold one or three channels; images of {facts.title} have "
            f"{facts.shape[0]}"
        )


def _tables(tables, entries, reference_files):
    for name, table in tables.items():
        where = f"tables.{name}"
        yield from unknown(f"{where}.experiment", "experiment", table["experiment"], entries)
        if table["experiment"] in entries:
            experiment = entries[table["experiment"]]
            for key in ("amplify", "noise"):
                for level in table[key]:
                    if level not in experiment[key]:
                        yield (
                            f"{where}.{key}: level {level:g} is not among those of experiment "
                            f"{table['experiment']}; add it there"
                        )
        if "printed" in table:
            file, column = table["printed"], ROW_NAMES[table["kind"]]
            yield from unknown(
                f"{where}.printed", "file in workflow/reference", file, reference_files
            )
            if file in reference_files and column not in reference_files[file]:
                yield (
                    f"{where}.printed: {file} has no column {column}, so it is no table of kind "
                    f"{table['kind']}"
                )


def _grids(config, entries, splits, facts):
    models, attacks = config["models"], config["attacks"]
    sets = {(e["attack"], source) for e in entries.values() for source in e["sources"]}
    for name, grid in config["figures"]["examples"].items():
        where = f"figures.examples.{name}"
        if "stored" in grid:
            yield from _no_picture(f"{where}.stored", facts)
        if set(grid) - {"stored"} == {"attack", "source"}:
            yield from unknown(f"{where}.attack", "attack", grid["attack"], attacks)
            yield from unknown(f"{where}.source", "model", grid["source"], models)
            known = grid["attack"] in attacks and grid["source"] in models
            if known and (grid["attack"], grid["source"]) not in sets:
                yield f"{where}: no experiment attacks {grid['source']} with {grid['attack']}"
        elif set(grid) == {"images", "noise"}:
            yield from unknown(f"{where}.images", "split", grid["images"], splits)
        elif set(grid) == {"images", "noise", "stored"}:
            yield f"{where}.stored: only adversarial images are shown as stored; take it out"
        else:
            yield f"{where} needs either attack and source, or images and noise"
