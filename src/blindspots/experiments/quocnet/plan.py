"""Jobs of the experiments of kind quocnet: how little deceives a detector on frozen features?"""

from pathlib import Path

import yaml

from blindspots.data.facts import BASES
from blindspots.models.makers import quocnet as maker
from blindspots.study.detection import other_labels, shared_images, sought
from blindspots.study.jobs import Job, figure, makes, table
from blindspots.study.libraries import MARKUP, PLOTS, QUANTILES, TABLES, versions
from blindspots.study.sentences import unknown

SCHEMA = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))


def problems(config, entries, facts, reference_files):
    """Yield what is wrong with experiments."""
    models, attacks = config["models"], config["attacks"]
    for name, entry in entries.items():
        where = f"experiments.{name}"
        splits = [*BASES, *config["splits"]["parts"]]
        yield from unknown(f"{where}.images", "split", entry["images"], splits)
        yield from unknown(f"{where}.attack", "attack", entry["attack"], attacks)
        for model in entry["models"]:
            yield from unknown(f"{where}.models", "model", model, models)
        if entry["attack"] not in attacks or not set(entry["models"]) <= set(models):
            continue
        if sought(config, facts, entry["images"]) is None:  # nothing else can be right, either
            if entry["images"] in splits:
                yield f"{where}.images: {entry['images']} has no `detect`, the class to be detected"
            continue
        attack = attacks[entry["attack"]]
        if attack["targets"] != "untargeted":
            yield f"{where}.attack: of two classes one is wrong; write targets: untargeted"
        if sought(config, facts, attack["images"]) != sought(config, facts, entry["images"]):
            yield f"{where}.attack: it attacks images of {attack['images']}, which detects another"
        for model in entry["models"]:
            if maker.KEY not in models[model]:
                yield f"{where}.models: {model} has no `features`; take it out"
            else:
                yield from other_labels(f"{where}.models", model, config, facts, entry["images"])
                yield from _seen(f"{where}.images", model, models[model], entry, config, facts)
        yield from _controls(where, {m: models[m] for m in entry["models"]})


def _seen(where, name, model, entry, config, facts):
    """Yield a sentence if a model is judged by images that it is made from."""
    splits = model["split"], entry["images"]
    known = {*BASES, *config["splits"]["parts"]}
    if known.issuperset(splits) and (count := shared_images(config, facts, *splits)):
        yield f"{where}: {count} images of {splits[1]} are among those that {name} is made from"


def _controls(where, models):
    """Yield which controls are missing: what learning and what features are good for."""
    made = [model for model in models.values() if maker.KEY in model]
    drawn = [_shapes(model) for model in made if model[maker.KEY] == "random"]
    for name, model in models.items():
        if model.get(maker.KEY) == "rica" and _shapes(model) not in drawn:
            yield f"{where}.models: beside {name} there must be one with random filters as its own"
    if not any(model[maker.KEY] == maker.PIXELS for model in made):
        yield f"{where}.models: one with features: pixels must be among them"


def _shapes(model):
    stages = model.get("stages", [])
    return [{key: stage[key] for key in stage if key != "sparsity"} for stage in stages]


def jobs(study, entries):
    """Yield the jobs that experiments ask for."""
    for name in entries:
        for rule in RULES[1:]:
            yield study.job(rule.__name__, experiment=name)


@makes(measured="quocnet/{experiment}/{model}/seed{seed}.safetensors")
def measure_detector(study, experiment, model, seed):
    """The scores of a detector, and the sizes of what deceives it."""
    entry = study.config["experiments"][experiment]
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "model": study.model(model, seed),
            "set": study.set(model, entry["attack"], seed),
        },
        settings={
            "images": study.split(entry["images"]),
            "chunk": study.config["chunk"],
            **study.compute("evaluate"),
        },
    )


@makes(**table("quocnet/{experiment}", "md", "html"))
def tabulate_detectors(study, experiment):
    """All detectors of an experiment, in both directions."""
    entry = study.config["experiments"][experiment]
    name, ways = _named(study, experiment)
    wildcards = [(model, seed) for model in entry["models"] for seed in study.seeds]
    return Job(
        inputs={
            "parts": [
                study.job("measure_detector", experiment=experiment, model=model, seed=seed)
                for model, seed in wildcards
            ]
        },
        settings={
            "about": [{"model": model, "seed": seed} for model, seed in wildcards],
            "models": {model: _shown(study, model) for model in entry["models"]},
            "data": f"{study.facts.title}, {name}",
            "directions": ways,
            "versions": versions((*TABLES, *MARKUP, *QUANTILES)),
        },
    )


@makes(**figure("figures/quocnet/{experiment}"))
def plot_detectors(study, experiment):
    """Accuracies of the detectors, and what deceives them."""
    return Job(
        inputs={"table": study.job("tabulate_detectors", experiment=experiment)},
        settings={"title": _title(study, experiment), "versions": versions(PLOTS)},
    )


@makes(**figure("figures/quocnet_examples/{experiment}", "png"))
def plot_detector_examples(study, experiment):
    """Images that deceive the first of the detectors, as figure 6 of the paper has them."""
    entry = study.config["experiments"][experiment]
    model, seed = entry["models"][0], study.seeds[0]
    split = study.split(study.config["attacks"][entry["attack"]]["images"])
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "set": study.set(model, entry["attack"], seed),
        },
        settings={
            "base": split["of"],
            "directions": _named(study, experiment)[1],
            "label": study.label(model),
            "title": _title(study, experiment),
            "versions": versions((*PLOTS, "torch")),
        },
    )


RULES = (measure_detector, tabulate_detectors, plot_detectors, plot_detector_examples)


def _named(study, experiment):
    """Return the name of the class that is detected, and the names of the two directions."""
    number = study.split(study.config["experiments"][experiment]["images"])["detect"]
    name = study.facts.names[number] if study.facts.names else str(number)
    return name, [f"not {name} -> {name}", f"{name} -> not {name}"]  # by true label: 0, 1


def _shown(study, model):
    entry = study.config["models"][model]
    return {
        "label": study.label(model),
        "stages": len(entry.get("stages", ())),
        "features": entry[maker.KEY],
    }


def _title(study, experiment):
    return study.config["experiments"][experiment].get("title", experiment)
