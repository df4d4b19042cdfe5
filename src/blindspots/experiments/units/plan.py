"""Jobs of the experiments of kind units: is the natural basis of a layer any better than others?"""

from pathlib import Path

import yaml

from blindspots.data.facts import BASES
from blindspots.experiments.units.fields import TOP
from blindspots.models.makers.registry import maker_of
from blindspots.study.jobs import Job, figure, makes, table
from blindspots.study.libraries import MARKUP, PLOTS, QUANTILES, TABLES, versions
from blindspots.study.sentences import unknown

SCHEMA = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))


def problems(config, entries, facts, reference_files):
    """Yield what is wrong with experiments."""
    models, splits = config["models"], [*BASES, *config["splits"]["parts"]]
    for name, entry in entries.items():
        where = f"experiments.{name}"
        yield from unknown(f"{where}.images", "split", entry["images"], splits)
        few = 0 < _size(config["splits"], facts, entry["images"]) < 2 * TOP
        if few and name in config.get("run", entries):  # a small data set may leave it out
            yield (
                f"{where}.images: {entry['images']} has fewer than {2 * TOP} images, of which each "
                f"unit is shown {TOP}; take another split"
            )
        seeds = entry.get("seeds", config["seeds"])
        for model in entry["models"]:
            yield from unknown(f"{where}.models", "model", model, models)
            if model in models:
                for problem in _model(models[model], facts):
                    yield f"{where}.models: {model} {problem}"
        known = [model for model in entry["models"] if model in models]
        if len(entry["models"]) == len(known) == 1:
            one = models[known[0]]
            if not maker_of(one).seeded(one):
                yield (
                    f"{where}.models: {known[0]} is alone, and images are compared in the features "
                    "of another network; add a model"
                )
            elif len(seeds) == 1:
                yield (
                    f"{where}: {known[0]} is alone with one seed, and images are compared in the "
                    "features of another network; add seeds, or a model"
                )


def _size(splits, facts, name):
    """Return how many images a split has; 0 where it is none, which is told elsewhere."""
    part = splits["parts"].get(name, {})
    size = facts.sizes.get(part.get("of", name), 0)
    if "range" in part:
        return part["range"][1] - part["range"][0]
    start, stop = part.get("share", (0, 1))
    return round(stop * size) - round(start * size)


def _model(entry, facts):
    """Yield what keeps a model from having units that respond to the images."""
    maker = maker_of(entry)
    if not maker.differentiable(entry):
        yield "is no network, so it has no units; take it out"
    elif entry.get("architecture") == "softmax":
        yield "has no hidden layer; take it out"
    shape, classes = maker.takes(entry, facts)
    if (shape, classes) != (facts.shape, facts.classes):
        yield (
            f"takes images of shape {shape} and {classes} classes; those of {facts.title} have "
            f"{facts.shape} and {facts.classes}; take it out of this experiment"
        )


def jobs(study, entries):
    """Yield the jobs that experiments ask for."""
    for name, entry in entries.items():
        yield study.job("tabulate_units", experiment=name)
        yield study.job("plot_units", experiment=name)
        for model in entry["models"]:
            yield study.job("plot_top_images", experiment=name, model=model)


@makes(units="units/{experiment}/{model}/seed{seed}.safetensors")
def measure_units(study, experiment, model, seed):
    """The units of every layer of one model, and random directions beside them."""
    entry = study.config["experiments"][experiment]
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "model": _made(study, model, seed),
            "reference": _reference(study, entry, model, seed),
        },
        settings={
            "images": study.split(entry["images"]),
            "bases": entry["bases"],
            "seed": seed,
            "chunk": study.config["chunk"],
            **study.compute("evaluate", QUANTILES),
        },
    )


@makes(**table("units/{experiment}", "md", "html"))
def tabulate_units(study, experiment):
    """The tests of all families, layers, models and seeds."""
    parts, about = _parts(study, experiment)
    return Job(
        inputs={"parts": parts},
        settings={"about": about, "versions": versions((*TABLES, *MARKUP, *QUANTILES))},
    )


@makes(**figure("figures/units/{experiment}"))
def plot_units(study, experiment):
    """Every direction of all families, and how far units lie from random bases in each layer."""
    parts, about = _parts(study, experiment)
    entry = study.config["experiments"][experiment]
    settings = {"title": entry.get("title", experiment), "versions": versions(PLOTS)}
    return Job(inputs={"parts": parts}, settings=settings | {"about": about})


@makes(**figure("figures/top_images/{experiment}/{model}", "png"))
def plot_top_images(study, experiment, model):
    """The images that some units and some random directions respond to most."""
    entry = study.config["experiments"][experiment]
    seed = _seeds(study, entry, model)[0]
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "units": study.job("measure_units", experiment=experiment, model=model, seed=seed),
        },
        settings={
            "images": study.split(entry["images"]),
            "label": study.label(model),
            "versions": versions((*PLOTS, "torch")),
        },
    )


RULES = (measure_units, tabulate_units, plot_units, plot_top_images)


def _seeds(study, entry, model):
    """Return the seeds of a model: the experiment's, or one where none counts."""
    about = study.config["models"][model]
    seeds = entry.get("seeds", study.seeds)
    return seeds if maker_of(about).seeded(about) else study.seeds_of(model)


def _made(study, model, seed):
    """Return the job that makes a model, with a seed that need not be the study's."""
    return study.job("train_model", model=model, seed=seed)


def _reference(study, entry, model, seed):
    """Return the network in whose features images are compared: never the one that is tested.

    It is the next seed of the same model or, where there is none, the next model.
    """
    seeds = _seeds(study, entry, model)
    if len(seeds) > 1:
        return _made(study, model, seeds[(seeds.index(seed) + 1) % len(seeds)])
    names = entry["models"]
    other = names[(names.index(model) + 1) % len(names)]
    return _made(study, other, _seeds(study, entry, other)[0])


def _parts(study, experiment):
    """Return the jobs that measure all models, and what is said of each."""
    entry = study.config["experiments"][experiment]
    pairs = [(m, seed) for m in entry["models"] for seed in _seeds(study, entry, m)]
    parts = [
        study.job("measure_units", experiment=experiment, model=m, seed=seed) for m, seed in pairs
    ]
    return parts, [{"network": study.label(m), "seed": seed} for m, seed in pairs]
