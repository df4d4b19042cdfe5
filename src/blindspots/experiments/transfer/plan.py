"""Jobs of the experiments of kind transfer: which models does each adversarial set fool?

All of them together have one tidy table, from which the published ones are made.
"""

from blindspots.artifacts import file_digest
from blindspots.evaluation.variants import stored
from blindspots.evaluation.variants.registry import VARIANTS, modules_of, packages_of
from blindspots.experiments.transfer.checks import problems, schema
from blindspots.experiments.transfer.victim_seeds import named, seeds_of_victims
from blindspots.study.jobs import Job, figure, makes, table
from blindspots.study.libraries import MARKUP, PLOTS, QUANTILES, TABLES, versions

KIND = "transfer"
SCHEMA = schema()
__all__ = ["RULES", "SCHEMA", "jobs", "problems"]


def jobs(study, entries):
    """Yield the jobs that experiments ask for."""
    yield study.job("collect_transfer")
    for name, entry in study.config["tables"].items():
        if entry["experiment"] in entries:
            yield study.job("tabulate", table=name)
    for name in entries:
        for plot in (plot_transfer, plot_error_curves, plot_distortions):
            yield study.job(plot.__name__, experiment=name)
        if entries[name]["stored"]:
            yield study.job("tabulate_storage", experiment=name)
    for name, entry in study.config["figures"]["examples"].items():
        if "source" not in entry:
            yield study.job("plot_noise_examples", grid=name)
        elif (entry["source"], entry["attack"]) in sets(study):
            yield study.job("plot_adversarial_examples", grid=name)


# What there is -------------------------------------------------------------------------------


def sets(study):
    """Return (source, attack) of every adversarial set, each once."""
    pairs = [(s, e["attack"]) for e in _entries(study) for s in e["sources"]]
    return list(dict.fromkeys(pairs))


def pools(study):
    """Return the splits on which clean and noisy images are evaluated."""
    found = [pool for e in _entries(study) for pool in (*e["clean"], attack_pool(study, e))]
    return list(dict.fromkeys(found))


def victims_of(entry):
    """Return the victims of an experiment: its sources, unless it names others."""
    return entry.get("victims", entry["sources"])


def attack_pool(study, entry):
    """Return the split whose images an experiment attacks."""
    return study.config["attacks"][entry["attack"]]["images"]


def row_victims(study, source, attack, seed):
    """Return (victim, seed) of all that a set is shown to, over all experiments that use it."""
    pairs = [
        (name, other)
        for e in _using(study, source, attack)
        for name in victims_of(e)
        for other in seeds_of_victims(e["victim_seeds"], seed, study.seeds)
    ]
    return list(dict.fromkeys(pairs))


def noise_victims(study, pool):
    """Return the models that are evaluated on the clean and noisy images of a split."""
    names = []
    for entry in _entries(study):
        if pool in (*entry["clean"], attack_pool(study, entry)):
            names += [*entry["sources"], *victims_of(entry)]
    return list(dict.fromkeys(names))


def _entries(study):
    return study.experiments(KIND).values()


def _using(study, source, attack):
    return [e for e in _entries(study) if e["attack"] == attack and source in e["sources"]]


# Rows ----------------------------------------------------------------------------------------


@makes(row="rows/{model}/seed{seed}/{attack}.json")
def evaluate_transfer(study, model, seed, attack):
    """One adversarial set on every victim, every variant."""
    variants = [{"kind": "as_found"}]
    variants += _variants("set", _using(study, model, attack))
    pairs = row_victims(study, model, attack, seed)
    victims = {named(name, other, seed): study.model(name, other) for name, other in pairs}
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "set": study.set(model, attack, seed),
            "source": study.model(model, seed),
            "victims": victims,
        },
        settings={
            "source": model,
            "seed": seed,
            "attack": attack,
            "base": study.split(study.config["attacks"][attack]["images"])["of"],
            "victims": list(victims),
            "variants": variants,
            "chunk": study.config["chunk"],
            **study.compute("evaluate", packages_of(variants)),
        },
        modules=modules_of([*variants, {"kind": "clean"}]),
    )


@makes(row="rows/noise/seed{seed}/{pool}.json")
def evaluate_noise(study, pool, seed):
    """Clean and noisy images of a split on every victim."""
    attacked = [e for e in _entries(study) if attack_pool(study, e) == pool]
    variants = [{"kind": "clean"}, *_variants("images", attacked)]
    names = noise_victims(study, pool)
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "victims": {name: study.model(name, seed) for name in names},
        },
        settings={
            "source": "noise",
            "seed": seed,
            "attack": pool,
            "images": study.split(pool),
            "victims": names,
            "variants": variants,
            "chunk": study.config["chunk"],
            **study.compute("evaluate", packages_of(variants)),
        },
        modules=modules_of([*variants, {"kind": "clean"}]),
    )


@makes(transfer="transfer.csv", answers="answers.safetensors", provenance="transfer.csv.json")
def collect_transfer(study):
    """All rows in one tidy table, and the answers to single images behind it."""
    rows = [
        study.job("evaluate_transfer", model=model, seed=seed, attack=attack)
        for model, attack in sets(study)
        for seed in study.seeds
    ]
    rows += [
        study.job("evaluate_noise", pool=pool, seed=seed)
        for pool in pools(study)
        for seed in study.seeds
    ]
    return Job(inputs={"rows": rows})


def _variants(of, entries):
    """Return the variants of sets or of images that some experiments ask for, each once."""
    found = []
    for variant in VARIANTS.values():
        if of == variant.OF and variant.KEY:
            for entry in entries:
                found += variant.variants(entry[variant.KEY], entry["clip"])
    return [v for i, v in enumerate(found) if v not in found[:i]]


# Tables and figures --------------------------------------------------------------------------


@makes(**table("tables/{table}", "md", "tex", "html"))
def tabulate(study, table):
    """A published table."""
    entry = study.config["tables"][table]
    shown = _shown(study, entry["experiment"])
    printed = entry.get("printed") if study.config["dataset"] == "mnist" else None
    path = study.reference / printed if printed else None
    models = study.config["models"]
    return Job(
        inputs={"transfer": study.job("collect_transfer")},
        files={"printed": [path] if path else []},
        settings={
            **shown,
            "table": table,
            "kind": entry["kind"],
            "caption": entry["caption"],
            "amplify": entry["amplify"],
            "noise": entry["noise"],
            "descriptions": {name: models[name]["description"] for name in shown["labels"]},
            "printed": file_digest(path) if path else None,
            "versions": versions((*TABLES, *MARKUP, *QUANTILES)),
        },
    )


@makes(record="storage/{model}/seed{seed}/{attack}.json")
def measure_storage(study, model, seed, attack):
    """The margins of one adversarial set, and those that it needs to be stored."""
    entry = study.config["attacks"][attack]
    return Job(
        inputs={
            "data": study.job("prepare_data"),
            "set": study.set(model, attack, seed),
            "model": study.model(model, seed),
        },
        settings={
            "base": study.split(entry["images"])["of"],
            "targets": entry["targets"],
            "chunk": study.config["chunk"],
            **study.compute("evaluate", stored.PACKAGES),
        },
    )


@makes(**table("storage/{experiment}", "md", "html"))
def tabulate_storage(study, experiment):
    """How many adversarial images survive being stored, and by what margins."""
    entry = study.config["experiments"][experiment]
    shown = _shown(study, experiment)
    said = ("dataset", "seeds", "attack", "pool", "targets", "sources")
    ways = stored.variants(entry["stored"], entry["clip"])
    return Job(
        inputs={
            "transfer": study.job("collect_transfer"),
            "records": [
                study.job("measure_storage", model=source, seed=seed, attack=shown["attack"])
                for source in shown["sources"]
                for seed in study.seeds
            ],
        },
        settings={
            **{key: shown[key] for key in said},
            "labels": {source: study.label(source) for source in shown["sources"]},
            "title": entry.get("title", experiment),
            "stored": [[stored.name(way), stored.in_words(way)] for way in ways],
            "versions": versions((*TABLES, *MARKUP, *QUANTILES)),
        },
    )


@makes(**figure("figures/transfer/{experiment}"))
def plot_transfer(study, experiment):
    """The victim error of every pair of source and victim."""
    return _plot(study, experiment)


@makes(**figure("figures/error_curves/{experiment}"))
def plot_error_curves(study, experiment):
    """Victim error against RMS distortion, beside noise."""
    return _plot(study, experiment)


@makes(**figure("figures/distortions/{experiment}"))
def plot_distortions(study, experiment):
    """How the RMS distortions of adversarial images are distributed."""
    shown = _shown(study, experiment)
    said = ("dataset", "seeds", "attack", "pool", "targets", "sources")
    return Job(
        inputs={
            "sets": [
                study.set(source, shown["attack"], seed)
                for source in shown["sources"]
                for seed in study.seeds
            ]
        },
        settings={
            **{key: shown[key] for key in said},
            "labels": {source: study.label(source) for source in shown["sources"]},
            "versions": versions(PLOTS),
        },
    )


@makes(**figure("figures/adversarial_examples/{grid}", "png"))
def plot_adversarial_examples(study, grid):
    """Adversarial images of one model beside their originals, as found or as a file has them."""
    entry = study.config["figures"]["examples"][grid]
    attack, seed = study.config["attacks"][entry["attack"]], study.seeds[0]
    inputs = {
        "data": study.job("prepare_data"),
        "set": study.set(entry["source"], entry["attack"], seed),
    }
    settings = {
        "label": study.label(entry["source"]),
        "base": study.split(attack["images"])["of"],
        "versions": versions((*PLOTS, "torch")),
    }
    if "detect" in (split := study.split(attack["images"])):
        settings["detect"] = split["detect"]
    if "stored" in entry:
        inputs["source"] = study.model(entry["source"], seed)
        (way,) = stored.variants([entry["stored"]], True)
        settings |= {"stored": way, "targets": attack["targets"]}
    return Job(inputs=inputs, settings=settings)


@makes(**figure("figures/noise_examples/{grid}", "png"))
def plot_noise_examples(study, grid):
    """Images with Gaussian noise beside their originals."""
    entry = study.config["figures"]["examples"][grid]
    return Job(
        inputs={"data": study.job("prepare_data")},
        settings={
            "images": study.split(entry["images"]),
            "noise": entry["noise"],
            "seed": study.seeds[0],
            "versions": versions((*PLOTS, "torch")),
        },
    )


RULES = (
    evaluate_transfer,
    evaluate_noise,
    collect_transfer,
    tabulate,
    measure_storage,
    tabulate_storage,
    plot_transfer,
    plot_error_curves,
    plot_distortions,
    plot_adversarial_examples,
    plot_noise_examples,
)


def _plot(study, experiment):
    return Job(
        inputs={"transfer": study.job("collect_transfer")},
        settings={**_shown(study, experiment), "versions": versions(PLOTS)},
    )


def _shown(study, experiment):
    """Return what tables and figures say of an experiment."""
    entry = study.config["experiments"][experiment]
    names = list(dict.fromkeys([*entry["sources"], *victims_of(entry)]))
    return {
        "dataset": study.facts.title,
        "seeds": study.seeds,
        "attack": entry["attack"],
        "pool": attack_pool(study, entry),
        "targets": study.config["attacks"][entry["attack"]]["targets"],
        "sources": entry["sources"],
        "victims": victims_of(entry),
        "victim_seeds": entry["victim_seeds"],
        "labels": {name: study.label(name) for name in names},
        "clean": entry["clean"],
        "amplify": entry["amplify"],
        "noise": entry["noise"],
    }
