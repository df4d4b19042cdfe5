"""Jobs of the experiments of kind minimum: how small are the distortions that fool a model?

They show what the sets and rows of experiments of kind transfer hold, and attack nothing anew.
"""

from pathlib import Path

import yaml

from blindspots.artifacts import file_digest
from blindspots.evaluation.variants import stored
from blindspots.study.jobs import Job, figure, makes, table
from blindspots.study.libraries import MARKUP, PLOTS, QUANTILES, TABLES, versions
from blindspots.study.sentences import unknown

PRINTED, QUANTITY = "szegedy2013-other-figures.csv", "AlexNet mean distortion over 64 examples"
PNG = {"as": "png"}
SCHEMA = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))


def problems(config, entries, facts, reference_files):
    """Yield what is wrong with experiments."""
    experiments = config["experiments"]
    run = config.get("run", experiments)
    for name, entry in entries.items():
        where = f"experiments.{name}.transfers"
        for transfer in entry["transfers"]:
            yield from unknown(where, "experiment", transfer, experiments)
            if transfer not in experiments:
                continue
            if experiments[transfer]["kind"] != "transfer":
                yield f"{where}: {transfer} is not of kind transfer, so it has no sources"
            elif PNG not in experiments[transfer]["stored"]:
                yield f"{where}: add {{as: png}} to experiments.{transfer}.stored, which is shown"
            if name in run and transfer not in run:
                yield f"{where}: {transfer} is not run; add it to run"


def jobs(study, entries):
    """Yield the jobs that experiments ask for."""
    for name in entries:
        yield study.job("tabulate_minimum", experiment=name)
        for source, attack in _sets(study, name):
            yield study.job("plot_minimum", experiment=name, model=source, attack=attack)


@makes(**table("minimum/{experiment}", "md", "html"))
def tabulate_minimum(study, experiment):
    """Success, size and survival of every set of an experiment."""
    runs = [(s, a, seed) for s, a in _sets(study, experiment) for seed in study.seeds]
    made, about = [], []
    for source, attack, seed in runs:
        row = study.job("evaluate_transfer", model=source, seed=seed, attack=attack)
        made += [study.set(source, attack, seed), row]
        entry = study.config["attacks"][attack]
        told = {"source": source, "seed": seed, "attack": attack, "targets": entry["targets"]}
        about.append({**told, "pool": entry["images"]})
    printed = study.reference / PRINTED
    return Job(
        inputs={"sets_and_rows": made},
        files={"printed": [printed]},
        settings={
            "about": about,
            "labels": {source: study.label(source) for source, _ in _sets(study, experiment)},
            "dataset": study.facts.title,
            "stored": stored.name(*stored.variants([PNG], True)),
            "printed": [file_digest(printed), QUANTITY],
            "versions": versions((*TABLES, *MARKUP, *QUANTILES)),
        },
    )


@makes(**figure("figures/minimum/{experiment}/{model}/{attack}", "png"))
def plot_minimum(study, experiment, model, attack):
    """Figure 5: originals, their magnified distortions, and what became of them."""
    entry, seed = study.config["attacks"][attack], study.seeds[0]
    printed = study.reference / PRINTED
    return Job(
        inputs={"data": study.job("prepare_data"), "set": study.set(model, attack, seed)},
        files={"printed": [printed]},
        settings={
            "label": study.label(model),
            "targets": entry["targets"],
            "base": study.split(entry["images"])["of"],
            "rows": study.config["experiments"][experiment]["rows"],
            "printed": [file_digest(printed), QUANTITY],
            "versions": versions((*PLOTS, "torch")),
        },
    )


RULES = (tabulate_minimum, plot_minimum)


def _sets(study, experiment):
    """Return (source, attack) of every set that an experiment shows, each once."""
    experiments = study.config["experiments"]
    transfers = [experiments[name] for name in experiments[experiment]["transfers"]]
    return list(dict.fromkeys((s, e["attack"]) for e in transfers for s in e["sources"]))
