"""Jobs of the experiments of kind amplification: what do layers make of small perturbations?"""

from pathlib import Path

import yaml

from blindspots.study.attackable import attackable
from blindspots.study.jobs import Job, figure, makes, table
from blindspots.study.libraries import MARKUP, PLOTS, QUANTILES, TABLES, versions
from blindspots.study.sentences import unknown

SCHEMA = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))


def problems(config, entries, facts, reference_files):
    """Yield what is wrong with experiments."""
    for name, entry in entries.items():
        where = f"experiments.{name}"
        yield from unknown(f"{where}.attack", "attack", entry["attack"], config["attacks"])
        yield from attackable(f"{where}.models", entry["models"], config, facts)


def jobs(study, entries):
    """Yield the jobs that experiments ask for."""
    for name in entries:
        for rule in (tabulate_amplification, plot_gains, plot_displacements):
            yield study.job(rule.__name__, experiment=name)


@makes(record="amplification/{experiment}/{model}/seed{seed}.json")
def measure_amplification(study, experiment, model, seed):
    """The gains of every layer of one network, and of the same network untrained."""
    entry = study.config["experiments"][experiment]
    attack = study.config["attacks"][entry["attack"]]
    adversarial = study.set(model, entry["attack"], seed)
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "model": study.model(model, seed),
            "set": adversarial,
        },
        settings={
            "model": model,
            "seed": seed,
            "base": study.split(attack["images"])["of"],
            "attack": adversarial.settings["attack"],
            "chunk": study.config["chunk"],
            "jacobians": entry["jacobians"],
            **{key: adversarial.settings[key] for key in ("device", "threads")},
            "versions": adversarial.settings["versions"] | versions(QUANTILES),
        },
        references=adversarial.references,
    )


@makes(**table("amplification/{experiment}", "md", "html"))
def tabulate_amplification(study, experiment):
    """The gains of all networks of an experiment."""
    entry = study.config["experiments"][experiment]
    return Job(
        inputs={
            "parts": [
                study.job("measure_amplification", experiment=experiment, model=model, seed=seed)
                for model in entry["models"]
                for seed in study.seeds
            ]
        },
        settings={
            **_shown(study, experiment),
            "versions": versions((*TABLES, *MARKUP, *QUANTILES)),
        },
    )


@makes(**figure("figures/gains/{experiment}"))
def plot_gains(study, experiment):
    """The gain of each perturbation by depth."""
    return _plot(study, experiment)


@makes(**figure("figures/displacements/{experiment}"))
def plot_displacements(study, experiment):
    """The relative displacement by each perturbation by depth."""
    return _plot(study, experiment)


RULES = (measure_amplification, tabulate_amplification, plot_gains, plot_displacements)


def _plot(study, experiment):
    return Job(
        inputs={"table": study.job("tabulate_amplification", experiment=experiment)},
        settings={**_shown(study, experiment), "versions": versions(PLOTS)},
    )


def _shown(study, experiment):
    """Return what tables and figures say of an experiment."""
    entry = study.config["experiments"][experiment]
    attack = study.config["attacks"][entry["attack"]]
    return {
        "dataset": study.facts.title,
        "seeds": study.seeds,
        "pool": attack["images"],
        "targets": attack["targets"],
        "labels": {model: study.label(model) for model in entry["models"]},
    }
