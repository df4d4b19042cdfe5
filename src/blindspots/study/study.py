"""What a study consists of: its jobs, and all that is known of them before any is run.

A specification holds all that determines the bytes of a job's output, and nothing else: resolved
settings, versions of the libraries, and the digests of specification and code of the jobs it
builds on. It is computed from configuration and sources alone, so a change anywhere changes the
specification of everything downstream, whatever has been run before.
"""

from copy import deepcopy
from functools import cached_property

from blindspots.data.facts import BASES, class_number
from blindspots.data.sources.registry import source_of
from blindspots.errors import UserError
from blindspots.escapes import escape_rst
from blindspots.models.makers.registry import maker_of
from blindspots.steps import plan as core
from blindspots.study.config import validated
from blindspots.study.files import data_root
from blindspots.study.fingerprint import fingerprint
from blindspots.study.jobs import refuse_long
from blindspots.study.kinds import KINDS
from blindspots.study.libraries import NUMERIC, versions
from blindspots.user_modules import fingerprint_user_module

# What describes the jobs of each rule.
RULES = {rule.__name__: rule for plan in (core, *KINDS.values()) for rule in plan.RULES}
# Where the names that wildcards stand for are given.
NAMED = {"model": "models", "attack": "attacks", "experiment": "experiments", "table": "tables"}


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

    Attributes
    ----------
    facts : blindspots.data.facts.Facts
        Of the data set.

    Raises
    ------
    blindspots.errors.UserError
        If the configuration has a mistake, or a file that it names is not what it should be.
    """

    def __init__(self, config, schema, reference, search_path, command_line=None):
        self.reference = reference
        self.search_path = search_path
        columns = columns_of_files(reference)
        self.config, self.facts = validated(config, schema, columns, command_line)
        self.name = self.config["study"]
        self.source = source_of(self.config["dataset"])
        self.data_root = data_root(self.config)
        self._jobs, self._code = {}, {}
        for job in self.jobs:
            refuse_long(job, f"results/{self.name}/")

    # What there is ---------------------------------------------------------------------------

    @property
    def seeds(self):
        """Seeds of the study."""
        return self.config["seeds"]

    def experiments(self, kind):
        """Return the experiments of a kind that are run, by name.

        They are sorted: mappings that overlays merge have no order of their own.
        """
        chosen = self.config.get("run", self.config["experiments"])
        entries = sorted(self.config["experiments"].items())
        return {name: e for name, e in entries if name in chosen and e["kind"] == kind}

    @cached_property
    def jobs(self):
        """Every job whose output is part of the study, inputs first."""
        found = {}

        def add(job):
            if job not in found:
                for other in job.upstream:
                    add(other)
                found[job] = True

        for kind, plan in KINDS.items():
            if entries := self.experiments(kind):
                for job in plan.jobs(self, entries):
                    add(job)
        if attacks := dict.fromkeys(job.wildcards["attack"] for job in found if _is_set(job)):
            self.used_attacks = list(attacks)
            add(self.job("check_engines"))
        return list(found)

    def job(self, rule, **wildcards):
        """Return the job of a rule with these wildcards.

        Raises
        ------
        UserError
            If the configuration has no entry of such a name, or the job is made from itself.
        """
        key = (rule, *sorted(wildcards.items()))
        if key not in self._jobs:
            for wildcard, section in NAMED.items():
                name = wildcards.get(wildcard)
                if name is not None and name not in self.config[section]:
                    raise UserError(f"{section}: the configuration has no {wildcard} {name!r}")
            self._jobs[key] = None
            job = RULES[rule](self, **wildcards)
            job.rule, job.wildcards = rule, wildcards
            patterns = RULES[rule].outputs
            job.outputs = {name: path.format(**wildcards) for name, path in patterns.items()}
            folder = RULES[rule].__module__.rpartition(".")[0]
            job.module = job.module or f"{folder}.{rule}"
            job.code = job.like.code if job.like else self._code_of(job)
            self._jobs[key] = job
        if self._jobs[key] is None:
            raise UserError(f"{_in_words(key)}: it would be made from itself")
        return self._jobs[key]

    def model(self, name, seed):
        """Return the job that makes a model, whoever makes it."""
        seeds = self.seeds_of(name)
        return self.job("train_model", model=name, seed=seed if seed in seeds else seeds[0])

    def seeds_of(self, model):
        """Return the seeds that a model is made with: all, or the first where none counts."""
        entry = self.config["models"][model]
        return self.seeds if maker_of(entry).seeded(entry) else self.seeds[:1]

    def set(self, model, attack, seed):
        """Return the job that makes an adversarial set."""
        return self.job("generate_adversarial_set", model=model, attack=attack, seed=seed)

    @cached_property
    def used_models(self):
        """Models that are made, in the order of the registry."""
        made = {job.wildcards["model"] for job in self.jobs if job.rule == "train_model"}
        return [name for name in self.config["models"] if name in made]

    # What specifications say ------------------------------------------------------------------

    def label(self, model):
        """Return the name of a model in tables and figures."""
        return self.config["models"][model].get("label", model)

    def split(self, name):
        """Return the description of a split, as `blindspots.data.splits` takes it.

        Raises
        ------
        UserError
            If the data set has no such images; it names the job that is being described.
        """
        splits = self.config["splits"]
        found = {"of": name}
        if name not in BASES:
            found = {**splits["parts"][name], "seed": splits["seed"]}
            if "detect" in found:
                found["detect"] = class_number(self.facts, found["detect"])
        if not self.facts.sizes[found["of"]]:
            asking = [key for key, job in self._jobs.items() if job is None][-1]
            raise UserError(
                f"{_in_words(asking)} needs images of {name}, and {self.facts.title} has a test "
                "set alone; take models from files (`weights`), and images of test and its parts"
            )
        return found

    def compute(self, stage, packages=()):
        """Return what every job that computes with tensors depends on."""
        return {
            "device": self.config["device"],
            "threads": self.config["threads"][stage],
            "versions": versions((*NUMERIC, *packages)),
        }

    def captions(self):
        """Return the configuration of what is run, for the report's captions.

        Its texts are reStructuredText. One that is missing is the id or, of a description, the
        architecture or the classifier; only the caption of a table stays empty.
        """
        config = deepcopy(self.config)
        if not isinstance(config["dataset"], str):
            config["dataset"] = self.facts.title
        config["models"] = {name: config["models"][name] for name in self.used_models}
        for name, model in config["models"].items():
            made_of = model.get("architecture", model.get("estimator", ""))
            described = model["description"].strip() or made_of
            model |= {"label": escape_rst(self.label(name)), "description": escape_rst(described)}
        run = {name for kind in KINDS for name in self.experiments(kind)}
        config["experiments"] = {n: e for n, e in config["experiments"].items() if n in run}
        for name, experiment in config["experiments"].items():
            title = experiment.get("title", "").strip().rstrip(".")
            experiment |= {"title": escape_rst(title or name)}
        for table in config["tables"].values():
            title = table["caption"].strip().rstrip(".")
            table["caption"] = title and escape_rst(title)
        return config

    def _code_of(self, job):
        """Return the fingerprints of the code that a job runs, in one word.

        That of the step; those of modules that it looks up, behind their names; those of users'.
        """
        key = (job.module, job.modules, job.references)
        if key not in self._code:
            own = (f"{name.rpartition('.')[2]}={fingerprint(name)}" for name in job.modules)
            users = (fingerprint_user_module(ref, self.search_path) for ref in job.references)
            self._code[key] = "-".join([fingerprint(job.module), *own, *users])
        return self._code[key]


def _in_words(key):
    """Return what a job is called: its rule, and what its wildcards stand for."""
    rule, *wildcards = key
    return " ".join([rule.replace("_", " "), *(str(value) for _, value in wildcards)])


def _is_set(job):
    return job.rule == "generate_adversarial_set"
