"""What a study consists of: its jobs, and the specification and identity of each.

A specification holds all that determines the bytes of a job's output, and nothing else: resolved
settings, versions of the libraries, and the digests of specification and code of the jobs it
builds on. It is computed from configuration and sources alone, so a change anywhere changes the
specification of everything downstream, whatever has been run before.
"""

from copy import deepcopy
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version

from blindspots.artifacts import canonical_json, file_digest, job_digest
from blindspots.data.catalogue import BASES, CATALOGUE
from blindspots.data.idx import contents
from blindspots.errors import UserError
from blindspots.escapes import escape_rst
from blindspots.parts import part_spec
from blindspots.study.config import data_root, validated
from blindspots.study.fingerprint import fingerprint, fingerprint_user_module

SHORT = 12  # hexadecimal digits by which jobs with many inputs know each of them
LONGEST = 120_000  # characters of a command, which may have 128 KiB; the rest is for the folder
# Libraries whose version may change an output's bytes, called by us or by those that we call.
NUMERIC = ("numpy", "torch")
TABLES = ("numpy", "pandas")
QUANTILES = ("scipy",)  # of the intervals over seeds; violins take it too
MARKUP = ("tabulate",)  # Markdown
# fonttools: fonts in PDF; pillow: pixels, in SVG too
PLOTS = ("fonttools", "matplotlib", "numpy", "pandas", "pillow", "seaborn", *QUANTILES)
OPTIMIZER_KEYS = {
    "lbfgs": ("max_evaluations", "history", "tolerance"),
    "adam": ("epochs", "batch_size", "learning_rate"),
    "sgd": ("epochs", "batch_size", "learning_rate", "momentum"),
}


def _files(stem, *suffixes):
    return tuple(f"{stem}.{suffix}" for suffix in suffixes)


# What each kind of job makes, below the folder of the study. Tensors and rows carry their
# provenance; of other files the first has it in a sidecar.
OUTPUTS = {
    "prepare_data": ("data.safetensors",),
    "check_engines": _files("engines", "csv", "html"),
    "train_model": ("models/{model}/seed{seed}.safetensors",),
    "generate_adversarial_set": ("adversarial/{model}/seed{seed}/{attack}.safetensors",),
    "evaluate_transfer": ("rows/{model}/seed{seed}/{attack}.json",),
    "evaluate_noise": ("rows/noise/seed{seed}/{pool}.json",),
    "collect_transfer": ("transfer.csv", "answers.safetensors"),
    "tabulate": _files("tables/{table}", "csv", "md", "tex", "html"),
    "plot_transfer": _files("figures/transfer/{experiment}", "svg", "pdf"),
    "plot_error_curves": _files("figures/error_curves/{experiment}", "svg", "pdf"),
    "plot_distortions": _files("figures/distortions/{experiment}", "svg", "pdf"),
    "plot_adversarial_examples": _files("figures/adversarial_examples/{grid}", "png", "pdf"),
    "plot_noise_examples": _files("figures/noise_examples/{grid}", "png", "pdf"),
}


PEERS = {"adv-lib": "adv-lib", "foolbox": "foolbox"}  # method prefix and package


@cache
def _versions(packages):
    try:
        return {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed beside snakemake, which asks for its version; "
            "install the packages of envs/requirements.txt there"
        ) from None


def refuse_other_versions(pins):
    """Raise UserError unless packages are installed in these versions, whatever their build."""
    for package, pin in pins.items():
        found = _versions((package,))[package]
        if found.partition("+")[0] != pin:
            raise UserError(
                f"envs/blindspots.yaml asks for {package} {pin}, and beside snakemake there is "
                f"{found}; with conda both must be the same"
            )


def _engines(attack):
    """Return (method, options) of an attack's own engine, or of the members of best_of."""
    members = attack["options"].get("members") or [attack]
    return [(member["method"], member.get("options", {})) for member in members]


def _peer_versions(methods):
    """Return the versions of the libraries that methods come from."""
    versions = {}
    for method in methods:
        package = PEERS.get(method.partition(":")[0])
        if package and ":" in method:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                raise UserError(
                    f"method {method} needs {package}, which is not installed; envs/peers.txt says "
                    "how to install it"
                ) from None
    return versions


def columns_of_files(folder):
    """Return the columns of every CSV file of a folder, by the file's name."""
    texts = {path.name: path.read_text(errors="replace") for path in folder.glob("*.csv")}
    return {name: text.partition("\n")[0].split(",") for name, text in texts.items()}


class Study:
    """One configuration, checked, and the jobs that follow from it.

    Parameters
    ----------
    config, schema : dict
    reference : pathlib.Path
        Folder of the printed numbers.
    search_path : sequence of str
        Where users' modules are looked for.
    command_line : dict, optional
        The part of the configuration that ``--config`` gave.

    Raises
    ------
    blindspots.errors.UserError
        If the configuration has a mistake, or a file of its data set is not what it should be.
    """

    def __init__(self, config, schema, reference, search_path, command_line=None):
        self.reference = reference
        self.search_path = search_path
        self.config = validated(config, schema, columns_of_files(reference), command_line)
        self.name = self.config["study"]
        self.data_root = data_root(self.config)
        self.content = contents(self.config["dataset"], self.data_root)
        self._digests = {}
        self._check_sizes()
        self._check_code_of_others()

    def _check_sizes(self):
        """Raise UserError if a job has more inputs than its command can name.

        Each takes its path and, in the specification, names and the beginning of its digest.
        """
        each = len(f"results/{self.name}/adversarial//seed00/.safetensors") + SHORT + 4
        models, attacks = self.config["models"], self.config["attacks"]
        jobs = [("rows", [each + len("".join(map(str, w.values()))) for _, w in self.row_jobs])]
        for pool in self.pools:  # whose noise is shown to every victim of its sets
            victims = self.noise_victims(pool)
            jobs.append(("victims", [each + 3 * len(name) + 10 for name in victims]))
        for entry in self.experiments:
            sets = each + len(entry["attack"])
            sources = [
                (sets + len(name)) * len(self.seeds) + 2 * len(name) + len(self.label(name)) + 20
                for name in entry["sources"]
            ]
            jobs.append(("sources", sources))
        described = [
            4 * len(name) + len(self.label(name)) + len(models[name]["description"]) + 25
            for name in self.used_models
        ]
        jobs.append(("models in a table", described))
        for model, attack in self.sets:
            jobs.append(("parts", [each + len(model + attack)] * attacks[attack]["parts"]))
        for what, lengths in jobs:
            if sum(lengths) > LONGEST:
                raise UserError(
                    f"{len(lengths)} {what} are more than one command can name; split the study "
                    "into several, for instance one for each seed"
                )

    def _check_code_of_others(self):
        """Raise UserError if a user's module or a library is not there."""
        _versions((*NUMERIC, *TABLES, *MARKUP, *PLOTS))
        self._users_code(self.used_attacks)
        for attack in self.used_attacks:
            _peer_versions([method for method, _ in _engines(attack)])
        for model in self.used_models:
            architecture = self.config["models"][model]["architecture"]
            if ":" in architecture:
                fingerprint_user_module(architecture, self.search_path)

    # What there is ---------------------------------------------------------------------------

    @cached_property
    def experiments(self):
        """The experiments, by name: mappings that overlays merge have no order of their own."""
        return [entry for _, entry in sorted(self.config["experiments"].items())]

    @cached_property
    def sets(self):
        """(source, attack) of every adversarial set."""
        pairs = [
            (source, experiment["attack"])
            for experiment in self.experiments
            for source in experiment["sources"]
        ]
        return list(dict.fromkeys(pairs))

    @cached_property
    def used_attacks(self):
        """The attacks that an experiment uses, in the order of the sets."""
        names = dict.fromkeys(attack for _, attack in self.sets)
        return [self.config["attacks"][name] for name in names]

    def attacks_in_parts(self, several):
        """Return the names of the attacks whose sets several jobs make, or one job."""
        return [n for n, entry in self.config["attacks"].items() if (entry["parts"] > 1) == several]

    @cached_property
    def pools(self):
        """Splits on which clean and noisy images are evaluated."""
        pools = []
        for experiment in self.experiments:
            pools += [*experiment["clean"], self.attack_pool(experiment)]
        return list(dict.fromkeys(pools))

    @property
    def seeds(self):
        """Seeds of the study."""
        return self.config["seeds"]

    @cached_property
    def used_models(self):
        """Models that an experiment uses, in the order of the registry."""
        used = set()
        for experiment in self.experiments:
            used |= {*experiment["sources"], *self.victims_of(experiment)}
        return [name for name in self.config["models"] if name in used]

    def victims_of(self, experiment):
        """Return the victims of an experiment: its sources, unless it names others."""
        return experiment.get("victims", experiment["sources"])

    def attack_pool(self, experiment):
        """Return the split whose images an experiment attacks."""
        return self.config["attacks"][experiment["attack"]]["images"]

    def row_victims(self, source, attack):
        """Return the victims of a set, over all experiments that use it."""
        names = []
        for experiment in self.experiments:
            if experiment["attack"] == attack and source in experiment["sources"]:
                names += self.victims_of(experiment)
        return list(dict.fromkeys(names))

    def noise_victims(self, pool):
        """Return the models that are evaluated on the clean and noisy images of a split."""
        names = []
        for experiment in self.experiments:
            if pool in (*experiment["clean"], self.attack_pool(experiment)):
                names += [*experiment["sources"], *self.victims_of(experiment)]
        return list(dict.fromkeys(names))

    def label(self, model):
        """Return the name of a model in tables and figures."""
        return self.config["models"][model].get("label", model)

    def captions(self):
        """Return the configuration for the report's captions.

        Its texts are reStructuredText. One that is missing is the id or, of a description, the
        architecture; only the caption of a table stays empty.
        """
        config = deepcopy(self.config)
        for name, model in config["models"].items():
            described = model["description"].strip() or model["architecture"]
            model |= {"label": escape_rst(self.label(name)), "description": escape_rst(described)}
        for name, experiment in config["experiments"].items():
            title = experiment.get("title", "").strip().rstrip(".")
            experiment |= {"title": escape_rst(title or name)}
        for table in config["tables"].values():
            title = table["caption"].strip().rstrip(".")
            table["caption"] = title and escape_rst(title)
        return config

    @property
    def row_jobs(self):
        """(step, wildcards) of every row of the transfer table, in the order of the table."""
        return [
            ("evaluate_transfer", {"model": model, "seed": seed, "attack": attack})
            for model, attack in self.sets
            for seed in self.seeds
        ] + [
            ("evaluate_noise", {"pool": pool, "seed": seed})
            for pool in self.pools
            for seed in self.seeds
        ]

    @property
    def jobs(self):
        """(step, wildcards) of every job whose output is part of the study, inputs first."""
        jobs = [("prepare_data", {}), ("check_engines", {})]
        jobs += [
            ("train_model", {"model": model, "seed": seed})
            for model in self.used_models
            for seed in self.seeds
        ]
        jobs += [
            ("generate_adversarial_set", {"model": model, "seed": seed, "attack": attack})
            for model, attack in self.sets
            for seed in self.seeds
        ]
        jobs += [*self.row_jobs, ("collect_transfer", {})]
        jobs += [("tabulate", {"table": table}) for table in self.config["tables"]]
        for plot in ("plot_transfer", "plot_error_curves", "plot_distortions"):
            jobs += [(plot, {"experiment": name}) for name in self.config["experiments"]]
        for grid, entry in self.config["figures"]["examples"].items():
            kind = "adversarial" if "source" in entry else "noise"
            jobs.append((f"plot_{kind}_examples", {"grid": grid}))
        return jobs

    def outputs(self, step, **wildcards):
        """Return what a job makes, as paths below the folder of the study."""
        return [pattern.format(**wildcards) for pattern in OUTPUTS[step]]

    # Specifications --------------------------------------------------------------------------

    def spec(self, step, **wildcards):
        """Return the specification of a job as canonical JSON."""
        return canonical_json(getattr(self, f"_{step}")(**wildcards))

    def code(self, step, **wildcards):
        """Return the fingerprint of the code that a job runs."""
        code = fingerprint(f"blindspots.steps.{step}")
        if step == "train_model":
            architecture = self.config["models"][wildcards["model"]]["architecture"]
            if ":" in architecture:
                code += "-" + fingerprint_user_module(architecture, self.search_path)
        if step == "generate_adversarial_set":
            code += self._users_code([self.config["attacks"][wildcards["attack"]]])
        if step == "check_engines":
            code += self._users_code(self.used_attacks)
        return code

    def _users_code(self, attacks):
        """Return the fingerprints of users' attack functions."""
        methods = sorted({method for attack in attacks for method, _ in _engines(attack)})
        return "".join(
            "-" + fingerprint_user_module(method, self.search_path)
            for method in methods
            if ":" in method and method.partition(":")[0] not in PEERS
        )

    def digest(self, step, **wildcards):
        """Return the identity of a job."""
        key = (step, *sorted(wildcards.items()))
        if key not in self._digests:
            spec, code = self.spec(step, **wildcards), self.code(step, **wildcards)
            self._digests[key] = job_digest(spec, code)
        return self._digests[key]

    def _short(self, step, **wildcards):
        """Return the beginning of a digest, for jobs with so many inputs that length matters.

        A command is one argument to the shell, at most 128 KiB.
        """
        return self.digest(step, **wildcards)[:SHORT]

    def _split(self, name):
        if name in BASES:
            return {"of": name}
        return {**self.config["splits"]["parts"][name], "seed": self.config["splits"]["seed"]}

    def _compute(self, stage):
        """Return what every job that computes with tensors depends on."""
        return {
            "device": self.config["device"],
            "threads": self.config["threads"][stage],
            "versions": dict(_versions(NUMERIC)),
        }

    def _prepare_data(self):
        packages = ("numpy", "scikit-learn") if self.config["dataset"] == "digits" else ("numpy",)
        spec = {"dataset": self.config["dataset"], "versions": _versions(packages)}
        return {**spec, "content": self.content} if self.content else spec

    def _train_model(self, model, seed):
        entry = self.config["models"][model]
        settings = {**self.config["training"], **entry["training"]}
        kept = ("optimizer", "weight_decay_convention", *OPTIMIZER_KEYS[settings["optimizer"]])
        training = {key: settings[key] for key in kept}
        decay = entry["weight_decay"]
        training["weight_decay"] = [
            float(d) for d in (decay if isinstance(decay, list) else [decay])
        ]
        architecture = {"kind": entry["architecture"]}
        for key in ("widths", "units", "channels", "options"):
            if key in entry:
                architecture[key] = entry[key]
        if entry["architecture"] == "mlp":
            architecture["activation"] = entry.get("activation", "sigmoid")
        if entry["architecture"] == "autoencoder":
            training["pretraining"] = entry["pretraining"]
        return {
            "architecture": architecture,
            "training": training,
            "split": self._split(entry["split"]),
            "seed": seed,
            "upstream": {"data": self.digest("prepare_data")},
            **self._compute("train"),
        }

    def _generate_adversarial_set(self, model, seed, attack):
        entry = self.config["attacks"][attack]
        compute = self._compute("attack")
        compute["versions"] |= _peer_versions([method for method, _ in _engines(entry)])
        return {
            "attack": {k: value for k, value in entry.items() if k not in ("images", "parts")},
            "images": self._split(entry["images"]),
            "seed": seed,
            "chunk": self.config["chunk"],
            "upstream": {
                "data": self.digest("prepare_data"),
                "model": self.digest("train_model", model=model, seed=seed),
            },
            **compute,
        }

    def _attack_part(self, model, seed, attack, part):
        spec = self._generate_adversarial_set(model, seed, attack)
        return part_spec(spec, part, self.config["attacks"][attack]["parts"])

    def _check_engines(self):
        engines = {canonical_json(e): e for attack in self.used_attacks for e in _engines(attack)}
        compute = self._compute("attack")
        compute["versions"] |= _versions(TABLES)
        compute["versions"] |= _peer_versions([method for method, _ in engines.values()])
        return {"engines": [list(engine) for _, engine in sorted(engines.items())], **compute}

    def _evaluate_transfer(self, model, seed, attack):
        victims = self.row_victims(model, attack)
        experiments = [
            e for e in self.experiments if e["attack"] == attack and model in e["sources"]
        ]
        variants = [{"kind": "as_found"}]
        variants += _leveled("amplified", "amplify", experiments)
        return {
            "source": model,
            "seed": seed,
            "attack": attack,
            "base": self._split(self.config["attacks"][attack]["images"])["of"],
            "victims": victims,
            "variants": variants,
            "chunk": self.config["chunk"],
            "upstream": {
                "data": self.digest("prepare_data"),
                "set": self.digest(
                    "generate_adversarial_set", model=model, seed=seed, attack=attack
                ),
                "source": self.digest("train_model", model=model, seed=seed),
                "victims": self._victim_digests(victims, seed),
            },
            **self._compute("evaluate"),
        }

    def _evaluate_noise(self, pool, seed):
        victims = self.noise_victims(pool)
        attacked = [e for e in self.experiments if self.attack_pool(e) == pool]
        return {
            "source": "noise",
            "seed": seed,
            "attack": pool,
            "images": self._split(pool),
            "victims": victims,
            "variants": [{"kind": "clean"}, *_leveled("gaussian", "noise", attacked)],
            "chunk": self.config["chunk"],
            "upstream": {
                "data": self.digest("prepare_data"),
                "victims": self._victim_digests(victims, seed),
            },
            **self._compute("evaluate"),
        }

    def _victim_digests(self, victims, seed):
        return {name: self._short("train_model", model=name, seed=seed) for name in victims}

    def _collect_transfer(self):
        rows = [self._short(step, **wildcards) for step, wildcards in self.row_jobs]
        return {"upstream": {"rows": rows}}

    def _shown(self, experiment):
        """Return what tables and figures say of an experiment."""
        entry = self.config["experiments"][experiment]
        names = list(dict.fromkeys([*entry["sources"], *self.victims_of(entry)]))
        return {
            "dataset": CATALOGUE[self.config["dataset"]].title,
            "seeds": self.seeds,
            "attack": entry["attack"],
            "pool": self.attack_pool(entry),
            "targets": self.config["attacks"][entry["attack"]]["targets"],
            "sources": entry["sources"],
            "victims": self.victims_of(entry),
            "labels": {name: self.label(name) for name in names},
            "clean": entry["clean"],
            "amplify": entry["amplify"],
            "noise": entry["noise"],
        }

    def _tabulate(self, table):
        entry = self.config["tables"][table]
        shown = self._shown(entry["experiment"])
        printed = entry.get("printed") if self.config["dataset"] == "mnist" else None
        return {
            **shown,
            "table": table,
            "kind": entry["kind"],
            "caption": entry["caption"],
            "amplify": entry["amplify"],
            "noise": entry["noise"],
            "descriptions": {
                name: self.config["models"][name]["description"] for name in shown["labels"]
            },
            "printed": file_digest(self.reference / printed) if printed else None,
            "versions": _versions((*TABLES, *MARKUP, *QUANTILES)),
            "upstream": {"transfer": self.digest("collect_transfer")},
        }

    def _plot_transfer(self, experiment):
        return {
            **self._shown(experiment),
            "versions": _versions(PLOTS),
            "upstream": {"transfer": self.digest("collect_transfer")},
        }

    _plot_error_curves = _plot_transfer

    def _plot_distortions(self, experiment):
        shown = self._shown(experiment)
        said = ("dataset", "seeds", "attack", "pool", "targets", "sources")
        return {
            **{key: shown[key] for key in said},
            "labels": {source: self.label(source) for source in shown["sources"]},
            "versions": _versions(PLOTS),
            "upstream": {
                "sets": [
                    self._short(
                        "generate_adversarial_set", model=source, seed=seed, attack=shown["attack"]
                    )
                    for source in shown["sources"]
                    for seed in self.seeds
                ]
            },
        }

    def _plot_adversarial_examples(self, grid):
        entry = self.config["figures"]["examples"][grid]
        seed = self.seeds[0]
        wildcards = {"model": entry["source"], "seed": seed}
        return {
            "label": self.label(entry["source"]),
            "base": self._split(self.config["attacks"][entry["attack"]]["images"])["of"],
            "versions": _versions((*PLOTS, "torch")),
            "upstream": {
                "data": self.digest("prepare_data"),
                "set": self.digest("generate_adversarial_set", attack=entry["attack"], **wildcards),
            },
        }

    def _plot_noise_examples(self, grid):
        entry = self.config["figures"]["examples"][grid]
        return {
            "images": self._split(entry["images"]),
            "noise": entry["noise"],
            "seed": self.seeds[0],
            "versions": _versions((*PLOTS, "torch")),
            "upstream": {"data": self.digest("prepare_data")},
        }


def _leveled(kind, key, experiments):
    """Return the variants of some experiments: every level once, clipped too where asked for."""
    variants = []
    for experiment in experiments:
        for level in experiment[key]:
            variants.append({"kind": kind, "level": level})
            if experiment["clip"]:
                variants.append({"kind": kind, "level": level, "clip": True})
    return [v for i, v in enumerate(variants) if v not in variants[:i]]
