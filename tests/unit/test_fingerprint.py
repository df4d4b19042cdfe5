"""Fingerprints of code: what an edit reruns."""

import ast
import shutil
import sys

import pytest

from blindspots.errors import UserError
from blindspots.study import fingerprint as module
from blindspots.study.fingerprint import fingerprint
from blindspots.user_modules import fingerprint_user_module

MODULES = {"prepare_data": "data.sources.mnist_family"}
MODULES |= {n: f"steps.{n}" for n in ("train_model", "generate_adversarial_set", "check_engines")}
MODULES |= {
    name: f"experiments.transfer.{name}"
    for name in ("evaluate_transfer", "evaluate_noise", "collect_transfer", "tabulate")
}
STEPS = tuple(MODULES)
ENGINES = {"generate_adversarial_set", "check_engines"}
EVALUATION = {"evaluate_transfer", "evaluate_noise"}
NOTEBOOK = ("attack", "inputs", "normalized", "transfer")


class Package:
    """A copy of the package that may be edited."""

    def __init__(self, source):
        self.source = source

    def fingerprints(self):
        """Return the fingerprint of every step, as a new process would compute it."""
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()
        return {step: fingerprint(f"blindspots.{MODULES[step]}") for step in STEPS}

    def edit(self, file, change):
        path = self.source / file
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    def rerun_by(self, file, change):
        """Return the steps whose fingerprint an edit changes."""
        before = self.fingerprints()
        self.edit(file, change)
        after = self.fingerprints()
        return {step for step in STEPS if before[step] != after[step]}


@pytest.fixture
def package(root, tmp_path, monkeypatch):
    source = tmp_path / "src" / "blindspots"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "src" / "blindspots", source, ignore=ignore)
    monkeypatch.setattr(module, "SOURCE_ROOT", tmp_path / "src")
    yield Package(source)
    monkeypatch.undo()
    Package(root).fingerprints()  # forget the copy


def add_code(text):
    return text + "\n\nADDED = 1\n"


def add_comments_and_layout(text):
    return "# A comment.\n\n\n" + text.replace("\n\n", "\n\n# Another comment.\n\n") + "\n\n\n"


def test_fresh_clone_has_the_same_fingerprints(package, tmp_path, monkeypatch):
    """Neither the folder nor the times of the files count."""
    before = package.fingerprints()
    shutil.move(tmp_path / "src", tmp_path / "elsewhere")
    monkeypatch.setattr(module, "SOURCE_ROOT", tmp_path / "elsewhere")
    assert package.fingerprints() == before
    assert len(set(before.values())) == len(STEPS)


def test_comments_and_layout_rerun_nothing(package):
    """In every file of the package."""
    before = package.fingerprints()
    for path in package.source.rglob("*.py"):
        package.edit(path.relative_to(package.source), add_comments_and_layout)
    assert package.fingerprints() == before


def test_rewording_a_docstring_reruns_nothing(package):
    """Of a module, a class and a function; a docstring may also go."""
    file = "optim/lbfgs_memory.py"
    before = package.fingerprints()
    text = (package.source / file).read_text(encoding="utf-8")
    parts = text.split('"""')  # outside, docstring, outside, ...
    reworded = [part if n % 2 == 0 else f"{part} More words.\n" for n, part in enumerate(parts)]
    package.edit(file, lambda text: '"""'.join(reworded))
    assert package.fingerprints() == before
    without = [part if n % 2 == 0 else "" for n, part in enumerate(parts)]
    package.edit(file, lambda text: '"""'.join(without))
    assert package.fingerprints() == before


@pytest.mark.parametrize(
    ("file", "rerun"),
    [
        ("optim/lbfgs_memory.py", ENGINES),
        ("attacks/lbfgs.py", ENGINES),
        ("attacks/projection.py", ENGINES),
        ("attacks/targets.py", {"generate_adversarial_set"}),
        ("models/training.py", {"train_model"}),
        ("data/datasets.py", {"prepare_data"}),
        ("data/torchvision_datasets.py", {"prepare_data"}),
        ("evaluation/intervals.py", EVALUATION | {"tabulate"}),
        ("experiments/transfer/tables.py", {"tabulate"}),
        ("evaluation/transfer.py", EVALUATION),
        ("experiments/transfer/cells.py", EVALUATION),
        ("experiments/transfer/evaluate_noise.py", {"evaluate_noise"}),
        ("experiments/transfer/collect_transfer.py", {"collect_transfer"}),
        ("models/networks.py", {"train_model", "generate_adversarial_set"} | EVALUATION),
        ("data/splits.py", {"train_model", "generate_adversarial_set"} | EVALUATION),
        ("study/study.py", set()),
        ("study/jobs.py", set()),
        ("steps/plan.py", set()),
        ("experiments/transfer/plan.py", set()),
        ("models/makers/trained.py", set()),
        ("data/sources/digits.py", set()),
        ("evaluation/variants/amplified.py", set()),  # looked up by name: in the code of its rows
        ("study/config.py", set()),
        ("study/fingerprint.py", set()),
        ("user_modules.py", set()),
        ("artifacts.py", set(STEPS)),
        ("steps/job.py", set(STEPS)),
        ("errors.py", set(STEPS)),
    ],
)
def test_edit_reruns_exactly_the_steps_that_import_the_file(package, file, rerun):
    assert package.rerun_by(file, add_code) == rerun


def test_small_edit_counts(package):
    """One digit of one constant."""
    rerun = package.rerun_by(
        "attacks/lbfgs.py", lambda text: text.replace("TOLERANCE = 1e-2", "TOLERANCE = 2e-2")
    )
    assert rerun == ENGINES


def test_new_import_is_followed(package):
    """Also one inside a function: an edit of the imported module then reruns the importer."""
    package.edit(
        "models/inference.py", lambda text: text + "\n\ndef f():\n    import blindspots.new\n"
    )
    (package.source / "new.py").write_text("VALUE = 1\n")
    rerun = package.rerun_by("new.py", add_code)
    assert "generate_adversarial_set" in rerun and "prepare_data" not in rerun


def test_packages_do_nothing_on_import(root):
    """Their __init__ files are empty, since fingerprints do not follow them.

    But for the whole package's, which finds a notebook's functions by their names.
    """
    whole = root / "src/blindspots/__init__.py"
    for path in (root / "src" / "blindspots").rglob("__init__.py"):
        assert path.read_text() == "" or path == whole
    tree = ast.parse(whole.read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [node.module for node in imports] == ["importlib"]


@pytest.mark.parametrize(
    "file", ["__init__.py", "__main__.py", *(f"notebook/{n}.py" for n in NOTEBOOK)]
)
def test_notebooks_and_the_command_are_no_part_of_steps(package, file):
    assert package.rerun_by(file, add_code) == set()


def test_relative_import_is_refused(package):
    """It would not be followed."""
    package.edit("models/inference.py", lambda text: "from . import networks\n" + text)
    with pytest.raises(ValueError, match="relative import"):
        package.fingerprints()


# Users' modules ----------------------------------------------------------------------------------

FACTORY = '"""Own networks."""\n\n\ndef build(shape, classes):\n    """Build."""\n    return 1\n'


def user_fingerprint(reference, *folders):
    for function in vars(module).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    return fingerprint_user_module(reference, [str(folder) for folder in folders])


@pytest.mark.parametrize("file", ["own.py", "pack/own.py", "pack/deep/own.py", "pack/__init__.py"])
@pytest.mark.parametrize("with_init", [True, False])
def test_user_module_is_found(tmp_path, file, with_init):
    """A module, in packages with and without an __init__ file, without importing it."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if with_init:
        for folder in path.relative_to(tmp_path).parents:
            (tmp_path / folder / "__init__.py").write_text("")
    path.write_text(FACTORY + "raise RuntimeError('imported')\n")
    name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    before = user_fingerprint(f"{name}:build", tmp_path)
    path.write_text(path.read_text().replace("Build.", "Build it.") + "# a comment\n")
    assert user_fingerprint(f"{name}:build", tmp_path) == before
    path.write_text(path.read_text().replace("return 1", "return 2"))
    assert user_fingerprint(f"{name}:build", tmp_path) != before
    assert name not in sys.modules


def test_first_folder_with_the_module_counts(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(f"PLACE = {folder!r}\n")
    one, two = tmp_path / "one", tmp_path / "two"
    assert user_fingerprint("own:f", one, two) == user_fingerprint("own:f", one)
    assert user_fingerprint("own:f", two, one) != user_fingerprint("own:f", one)


def test_package_counts_before_a_file_of_the_same_name(tmp_path):
    """As Python imports them."""
    (tmp_path / "own.py").write_text("PLACE = 'file'\n")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/__init__.py").write_text("PLACE = 'package'\n")
    found = user_fingerprint("own:f", tmp_path)
    (tmp_path / "own.py").unlink()
    assert user_fingerprint("own:f", tmp_path) == found


def test_latin1_module_with_its_declaration(tmp_path):
    """Python reads it, so it must be possible to use it."""
    text = "# -*- coding: latin-1 -*-\nNAME = 'Größe'\n"
    (tmp_path / "own.py").write_bytes(text.encode("latin-1"))
    assert len(user_fingerprint("own:f", tmp_path)) == 64


@pytest.mark.parametrize("reference", ["nowhere:build", "nowhere.own:build", "own.part:build"])
def test_missing_user_module(tmp_path, reference):
    (tmp_path / "own.py").write_text(FACTORY)
    with pytest.raises(UserError) as caught:
        user_fingerprint(reference, tmp_path)
    assert reference in str(caught.value) and "PYTHONPATH" in str(caught.value)


def test_user_module_with_a_mistake(tmp_path):
    (tmp_path / "own.py").write_text("def build(:\n")
    with pytest.raises(UserError) as caught:
        user_fingerprint("own:build", tmp_path)
    assert str(tmp_path / "own.py") in str(caught.value) and "line 1" in str(caught.value)


def test_user_module_that_is_no_python_source(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as caught:
        user_fingerprint("folder:build", tmp_path)
    assert "folder:build" in str(caught.value)
