"""How the house is built: rules, jobs and steps say the same, and imports run one way."""

import ast
import graphlib
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from blindspots.data.sources import registry as sources
from blindspots.evaluation.variants import registry as variants
from blindspots.models.makers import registry as makers
from blindspots.models.networks import build_network
from blindspots.study import kinds
from blindspots.study.jobs import PROVENANCE, Job
from blindspots.study.study import RULES, Study

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted((SOURCE / "blindspots").rglob("*.py"))
    if path.name != "__init__.py"
}
SCIENCE = ("data", "models", "optim", "attacks", "evaluation", "summary")
REGISTRIES = {
    "kind": (kinds, kinds.KINDS),
    "maker": (makers, makers.MAKERS),
    "source": (sources, dict(zip(sources.MODULES, sources.SOURCES, strict=True))),
    "variant": (variants, variants.VARIANTS),
}
ENTRIES = [
    pytest.param(registry, module, id=f"{point} {name}")
    for point, (registry, modules) in REGISTRIES.items()
    for name, module in modules.items()
]


# Rules, jobs and steps ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """Every kind, maker and variant, an attack in parts, printed numbers, an unusual victim."""
    import yaml

    folder = tmp_path_factory.mktemp("rich")
    network = build_network({"kind": "softmax"}, (1, 28, 28), 10, seed=0)
    torch.save(network.state_dict(), folder / "given.pt")
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    del config["run"]
    config["models"]["given"] = {"architecture": "softmax", "weights": "given.pt"}
    config["models"]["forest"] = {"estimator": "my_estimators:small", "split": "P1"}
    (folder / "my_estimators.py").write_text("def small(): ...\n")
    config["attacks"]["test-random"]["parts"] = 3
    config["experiments"]["cross_training_set"] |= {
        "victims": ["M1", "given", "forest"],
        "clip": True,
    }
    eights = {"detect": 8, "share": [0.0, 1.0]}
    config["splits"]["parts"] |= {
        "eights": eights | {"of": "train"},
        "few": eights | {"of": "test"},
    }
    config["models"]["pixels"] = {"features": "pixels", "split": "eights"}
    config["attacks"]["eights"] = {"method": "ddn", "targets": "untargeted", "images": "few"}
    config["experiments"]["detectors"] = {
        "kind": "quocnet",
        "models": ["pixels"],
        "attack": "eights",
        "images": "few",
    }
    config["figures"]["examples"]["file"] = {
        "attack": "train-random",
        "source": "softmax1",
        "stored": {"as": "png", "stretch": "survive"},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLINDSPOTS_DATA", str(folder))
        return Study(config, schema, ROOT / "workflow/reference", [str(folder)])


@pytest.fixture(scope="module")
def jobs(rich):
    """All jobs of the rich study; the sets in parts by the rules that Snakemake takes for them."""
    found = list(rich.jobs)
    for job in rich.jobs:
        if job.wildcards.get("attack") == "test-random" and "adversarial" in job.outputs:
            gather = rich.job("gather_adversarial_set", **job.wildcards)
            found += [gather, *gather.inputs["parts"]]
    return found


def test_rich_study_has_every_rule(jobs):
    assert {job.rule for job in jobs} == set(RULES)


@cache
def call_of_step(module):
    """Return what the last line of a step says: reads, writes, options, each a list of names."""
    for name, function in (("run", None), ("prepare", "blindspots.steps.prepare_data")):
        for node in ast.walk(ast.parse(MODULES[module].read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == name:
                if function:  # which says what every source reads and writes
                    reads, writes, _ = call_of_step(function)
                    options = [ast.literal_eval(argument) for argument in node.args[1:]]
                    return reads, writes, " ".join(options).split()
                said = {
                    word.arg: word.value.value
                    for word in node.keywords
                    if isinstance(word.value, ast.Constant)
                }
                return [said.get(key, "").split() for key in ("reads", "writes", "options")]
    raise AssertionError(f"{module} is no step")


def test_steps_read_what_their_jobs_are_made_from(jobs):
    """By the same names in the same order; a list behind a star, which may be empty."""
    for job in jobs:
        reads, writes, options = call_of_step(job.module)
        paths = job.input_paths() | job.files
        assert len(paths) == len(job.input_paths()) + len(job.files), job
        read = [name for name in reads if name.rstrip("*") in paths or not name.endswith("*")]
        assert [name.rstrip("*") for name in read] == list(paths), job
        for name, (key, those) in zip(read, paths.items(), strict=True):
            several = key in job.inputs and not isinstance(job.inputs[key], Job)
            assert name.endswith("*") or (len(those) == 1 and not several), (job, name)
        assert sum(name.endswith("*") for name in reads) <= 1, job.module
        assert writes == list(job.outputs), job
        both = {name.rstrip("*") for name in reads} & set(writes)
        assert both <= {PROVENANCE}, f"{job.module}: the output {both} hides the input"
        assert options == list(job.options), job


def test_no_input_is_lost(jobs):
    """Of inputs that several files make up none takes the place of another's."""
    for job in jobs:
        count = 0
        for those in job.inputs.values():
            if isinstance(those, Job):
                count += len(those.outputs)
            else:
                count += len(those)
        assert count == sum(map(len, job.input_paths().values())), job


def blocks():
    """Return the text of every rule that inherits one, by its name."""
    folders = (ROOT / "workflow/rules", SOURCE / "blindspots/experiments")
    text = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.smk"))
    parts = re.split(r"^use rule \w+ as (\w+) with:$", text, flags=re.MULTILINE)[1:]
    names = parts[::2]
    assert len(names) == len(set(names))
    return {
        name: re.split(r"^\S", block, maxsplit=1, flags=re.MULTILINE)[0]
        for name, block in zip(names, parts[1::2], strict=True)
    }


def test_rules_take_everything_from_the_job_of_their_name(jobs):
    """Inputs, outputs and params; a log for each job, whose name has its wildcards."""
    text = blocks()
    assert text.keys() == set(RULES)
    for job in {job.rule: job for job in jobs}.values():
        block = text[job.rule]
        taken = re.findall(r"\b(inputs|outputs|job)\(\s*\"(\w+)\"", block)
        expected = ["inputs"] if job.inputs or job.files else []
        # What makes the data has no inputs, but might have.
        expected = ["inputs"] if job.rule == "prepare_data" else expected
        assert taken == [(what, job.rule) for what in (*expected, "outputs", "job")], job.rule
        log = re.search(r"log:\s+\"(.*)\"", block)[1]
        assert set(re.findall(r"{(\w+)}", log)) == set(job.wildcards), job.rule
        assert re.match(r'\s+"""[A-Z].*\.?"""', block), f"{job.rule} does not say what it does"


def test_every_shown_output_has_a_caption():
    """Beside its rule, named after it; and no caption is left over."""
    captions = {}
    for path in [*ROOT.glob("workflow/rules"), *SOURCE.glob("blindspots/experiments/*")]:
        captions |= {caption.stem: caption for caption in path.glob("captions/*.rst")}
    assert {name for name, block in blocks().items() if "shown(" in block} == set(captions)


# Imports -----------------------------------------------------------------------------------------


def imports_of(module):
    """Return the modules of the package that a module imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & MODULES.keys()


GRAPH = {module: imports_of(module) for module in MODULES}


def below(module):
    """Return all that a module imports, whatever imports it, and itself."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += GRAPH[name]
    return seen


def is_science(module):
    parts = module.split(".")[1:]
    return parts[0] in SCIENCE and not {"sources", "makers", "registry"} & set(parts)


def is_planning(module):
    """Tell whether a module is part of planning alone, so that no job may depend on it."""
    parts = module.split(".")
    return parts[1] == "study" or parts[-1] in ("plan", "registry")


def is_door(module):
    """Tell whether a module is for people alone: in a notebook, on a command line."""
    return module == "blindspots.__main__" or module.split(".")[1] == "notebook"


def test_nothing_imports_itself():
    """Not by way of others either, those that are looked up by name included."""
    graph = {module: set(imported) for module, imported in GRAPH.items()}
    for registry, modules in REGISTRIES.values():
        graph[registry.__name__] |= {module.__name__ for module in modules.values()}
    graph["blindspots.evaluation.transfer"] |= {
        module.__name__ for module in variants.VARIANTS.values()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which tells it


def test_science_knows_neither_steps_nor_plans():
    found = [module for module in MODULES if is_science(module)]
    assert len(found) > 40
    for module in found:
        for other in GRAPH[module]:
            assert is_science(other) or other.count(".") == 1, f"{module} imports {other}"


def test_what_serves_all_layers_knows_none():
    for module in MODULES:
        if module.count(".") == 1:
            assert all(other.count(".") == 1 for other in GRAPH[module]), module


def test_nothing_comes_in_by_a_door():
    """Nor by the package itself, whose names no fingerprint follows."""
    for module, path in MODULES.items():
        assert is_door(module) or not any(map(is_door, GRAPH[module])), module
        whole = re.search(
            r"^\s*(from blindspots import|import blindspots$)", path.read_text(), re.M
        )
        assert not whole or module == "blindspots.__main__", module


def test_steps_depend_on_no_plan(jobs):
    """Whatever runs in a job, down to the last module: an edit of a plan is none of a step."""
    modules = {job.module for job in jobs} | {name for job in jobs for name in job.modules}
    modules |= {maker.MODULE for maker in makers.MAKERS.values()}
    modules |= {source.__name__ for source in sources.SOURCES}
    for module in modules:
        planning = {other for other in below(module) if is_planning(other)}
        assert not planning, f"{module} depends on {planning}"


def test_kinds_know_nothing_of_one_another():
    for module in MODULES:
        _, top, kind, *_ = [*module.split("."), ""]
        for other in GRAPH[module]:
            if other.startswith("blindspots.experiments."):
                may = top == "experiments" and other.split(".")[2] == kind
                assert may or is_door(module), f"{module} imports {other}"


def test_planning_loads_nothing_heavy():
    """Every cluster job plans anew, and takes its time for it."""
    heavy = ("torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "PIL", "snakemake")
    code = f"""
import sys
import blindspots.study.study
print(*(name for name in {heavy!r} if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_files_of_the_study_are_short():
    for path in (SOURCE / "blindspots/study").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path.name


# Registries --------------------------------------------------------------------------------------


def contract(registry):
    """Return what a registry's docstring asks for: names, and the parameters of functions."""
    found = {}
    for item in re.findall(r"^- (.*?)(?::|, from)", registry.__doc__, re.MULTILINE | re.DOTALL):
        for name, parameters in re.findall(r"``(\w+)(?:\(([\w, ]*)\))?``", item):
            found[name] = parameters.split(", ") if parameters else None
    return found


def test_contracts_are_read():
    """So that a registry whose docstring is written otherwise is not passed over."""
    assert contract(kinds).keys() == {"SCHEMA", "problems", "jobs", "RULES"}
    assert contract(variants)["perturb"] == ["variant", "originals", "adversarial", "context"]
    assert contract(makers)["inputs"] == ["study", "entry", "seed"]
    assert {"NAMES", "facts", "options", "PACKAGES"} <= contract(sources).keys()


@pytest.mark.parametrize(("registry", "module"), ENTRIES)
def test_module_keeps_the_contract_of_its_registry(registry, module):
    """It has all that the registry's docstring asks for, functions with as many parameters."""
    asked = contract(registry)
    if registry is sources:  # a name, or a key of a mapping
        left_out = ("KEY", "SCHEMA") if hasattr(module, "NAMES") else ("NAMES",)
        asked = {name: asked[name] for name in asked if name not in left_out}
    if registry is variants and module.KEY is None:
        del asked["variants"]
    for name, parameters in asked.items():
        assert hasattr(module, name), f"{module.__name__} has no {name}"
        if parameters:
            found = list(inspect.signature(getattr(module, name)).parameters)
            assert len(found) == len(parameters), f"{module.__name__}.{name} takes {found}"


@pytest.mark.parametrize(("registry", "module"), ENTRIES)
def test_file_is_listed(registry, module):
    """One that lies beside a registry and is not in it would be a module that nobody finds."""
    if registry is kinds:
        folder = SOURCE / "blindspots/experiments"
        lying = {path.parent.name for path in folder.glob("*/plan.py")}
        assert lying == set(kinds.KINDS)
    else:
        folder = Path(registry.__file__).parent
        lying = {path.stem for path in folder.glob("*.py")} - {"__init__", "registry", "levels"}
        assert lying == set(registry.MODULES)
