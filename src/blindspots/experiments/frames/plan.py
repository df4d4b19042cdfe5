"""Jobs of the experiments of kind frames: how much can each layer of some models stretch?"""

from pathlib import Path

import yaml

from blindspots.artifacts import file_digest
from blindspots.models.makers.registry import maker_of
from blindspots.study.jobs import Job, figure, makes, table
from blindspots.study.libraries import MARKUP, PLOTS, TABLES, versions
from blindspots.study.sentences import unknown

PRINTED = "szegedy2013-table5.csv"
SCHEMA = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))


def problems(config, entries, facts, reference_files):
    """Yield what is wrong with experiments."""
    models = config["models"]
    for name, entry in entries.items():
        where = f"experiments.{name}.models"
        for model in entry["models"]:
            yield from unknown(where, "model", model, models)
            if model in models and not maker_of(models[model]).differentiable(models[model]):
                yield f"{where}: {model} is no network, so it has no layers; take it out"


def jobs(study, entries):
    """Yield the jobs that experiments ask for."""
    for name in entries:
        yield study.job("tabulate_frames", experiment=name)
        yield study.job("plot_frames", experiment=name)


@makes(record="frames/{model}/seed{seed}.json")
def measure_frames(study, model, seed):
    """The bounds of every layer of one model."""
    return Job(
        inputs={"model": study.model(model, seed)},
        settings=study.compute("evaluate"),
    )


@makes(**table("frames/{experiment}", "md", "html"))
def tabulate_frames(study, experiment):
    """The bounds of all models of an experiment, and table 5 as printed beside."""
    models = study.config["experiments"][experiment]["models"]
    pairs = [(model, seed) for model in models for seed in study.seeds_of(model)]
    printed = study.reference / PRINTED
    return Job(
        inputs={"parts": [study.job("measure_frames", model=m, seed=s) for m, s in pairs]},
        files={"printed": [printed]},
        settings={
            "about": [{"model": study.label(model), "seed": seed} for model, seed in pairs],
            "printed": file_digest(printed),
            "versions": versions((*TABLES, *MARKUP)),
        },
    )


@makes(**figure("figures/frames/{experiment}"))
def plot_frames(study, experiment):
    """The bounds of every layer, and their product."""
    entry = study.config["experiments"][experiment]
    return Job(
        inputs={"table": study.job("tabulate_frames", experiment=experiment)},
        settings={"title": entry.get("title", experiment), "versions": versions(PLOTS)},
    )


RULES = (measure_frames, tabulate_frames, plot_frames)
