"""Specifications and identities of jobs: what an edit of the configuration reruns."""

import ast
import json
import sys
from copy import deepcopy
from importlib.metadata import version
from struct import pack

import pytest

from blindspots.data.idx import PUBLISHED
from blindspots.data.sources.registry import SOURCES
from blindspots.errors import UserError
from blindspots.experiments.transfer.plan import noise_victims, pools, row_victims, sets
from blindspots.steps.plan import attacks_in_parts
from blindspots.study import fingerprint
from blindspots.study.libraries import refuse_other_versions
from blindspots.study.study import Study


@pytest.fixture
def study_of(schema, reference, tmp_path, monkeypatch):
    """Return the function from a configuration to its study, for which no data lie ready."""
    monkeypatch.setenv("BLINDSPOTS_DATA", str(tmp_path))

    def study(config):
        return Study(config, schema, reference, [str(tmp_path)])

    return study


def jobs(study):
    """Return every job of a study: name as in the workflow, and digest."""
    found = {"prepare_data": study.job("prepare_data").digest}
    for seed in study.seeds:
        for model in study.used_models:
            found[f"train_model {model}"] = study.job("train_model", model=model, seed=seed).digest
        for model, attack in sets(study):
            wildcards = {"model": model, "seed": seed, "attack": attack}
            name = f"generate_adversarial_set {model} {attack}"
            found[name] = study.job("generate_adversarial_set", **wildcards).digest
    for row in study.job("collect_transfer").inputs["rows"]:
        name = " ".join([row.rule, *(str(v) for k, v in row.wildcards.items() if k != "seed")])
        found[name] = row.digest
    found["collect_transfer"] = study.job("collect_transfer").digest
    return found


def specs(study):
    """Return the specification of every table and figure."""
    found = {}
    for table in study.config["tables"]:
        found[f"tabulate {table}"] = study.job("tabulate", table=table).spec
    for experiment in study.experiments("transfer"):
        for kind in ("plot_transfer", "plot_error_curves", "plot_distortions"):
            found[f"{kind} {experiment}"] = study.job(kind, experiment=experiment).spec
    for grid, entry in study.config["figures"]["examples"].items():
        kind = "plot_adversarial_examples" if "source" in entry else "plot_noise_examples"
        found[f"{kind} {grid}"] = study.job(kind, grid=grid).spec
    return found


@pytest.fixture
def changed_by(config, study_of):
    """Return the function from an edit to the jobs whose identity it changes."""

    def changed(edit):
        after = deepcopy(config)
        edit(after)
        one, other = study_of(config), study_of(after)
        before = {**jobs(one), **specs(one)}
        return {
            name
            for name, value in {**jobs(other), **specs(other)}.items()
            if before.get(name) != value
        }

    return changed


def steps(names):
    return {name.split()[0] for name in names}


def test_study_is_that_of_the_paper(config, study_of):
    """Six models attacked on training images, three on test images."""
    study = study_of(config)
    assert study.name == "mnist" and study.seeds == [0]
    six = ["softmax1", "softmax2", "softmax3", "N100-100-10", "N200-200-10", "AE400-10"]
    three = ["M1", "M1p", "M2"]
    assert {source for source, attack in sets(study) if attack == "train-random"} == set(six)
    assert {source for source, attack in sets(study) if attack == "test-random"} == set(three)
    assert set(study.used_models) >= {*six, *three}
    assert row_victims(study, "softmax1", "train-random", 0) == [(name, 0) for name in six]
    assert set(pools(study)) >= {"train", "test", "P1", "P2"}
    assert noise_victims(study, "P1") == three
    assert set(noise_victims(study, "test")) == {*six, *three}


def test_content_of_the_data_is_part_of_every_job_but_the_check(config, study_of, tmp_path):
    """Files of the same size with other images; not where they lie."""
    config["dataset"] = "kmnist"
    found = []
    for label in (0, 0, 1):
        raw = tmp_path / "KMNIST/raw"
        raw.mkdir(parents=True, exist_ok=True)
        (raw / "t10k-labels-idx1-ubyte").write_bytes(
            pack(">2I", 2049, 10000) + bytes([label] * 10000)
        )
        study = study_of(config)
        found.append({**jobs(study), **specs(study)})
    one, same, other = found
    assert one == same
    assert (
        json.loads(study.job("prepare_data").spec)["content"]["train-images-idx3-ubyte"]
        == PUBLISHED
    )
    assert all(one[name] != other[name] for name in one)


def test_specifications_are_canonical(config, study_of):
    """Sorted keys, no space, and the same text from another study of the same configuration."""
    one, other = study_of(config), study_of(deepcopy(config))
    text = one.job("train_model", model="M1", seed=0).spec
    assert text == other.job("train_model", model="M1", seed=0).spec
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert jobs(one) == jobs(other)


def test_every_job_has_an_identity_of_its_own(config, study_of):
    found = jobs(study_of(config))
    assert len(set(found.values())) == len(found)


def test_order_of_keys_changes_nothing(changed_by):
    def reverse(value):
        if isinstance(value, dict):
            return {key: reverse(value[key]) for key in reversed(value)}
        return value

    def edit(config):
        backwards = reverse(config)
        config.clear()
        config.update(backwards)

    assert changed_by(edit) == set()


def test_label_changes_tables_and_figures_only(changed_by):
    changed = changed_by(lambda config: config["models"]["M1"].update(label="Net"))
    assert steps(changed) <= {
        "tabulate",
        "plot_transfer",
        "plot_error_curves",
        "plot_distortions",
    }
    assert {"tabulate table3", "tabulate table4"} <= changed
    assert not {"tabulate table1", "tabulate table2"} & changed


def test_description_changes_its_tables_only(changed_by):
    changed = changed_by(lambda config: config["models"]["M1"].update(description="A net"))
    assert changed and steps(changed) == {"tabulate"}
    assert "tabulate table1" not in changed


def test_caption_changes_its_table_only(changed_by):
    changed = changed_by(lambda config: config["tables"]["table1"].update(caption="Errors"))
    assert changed == {"tabulate table1"}


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config.update(study="other"),
        lambda config: config.update(data_root="/elsewhere"),
        lambda config: config.update(download=False),
        lambda config: config["training"].update(epochs=3),  # not a setting of lbfgs
        lambda config: config["models"].update(unused={"architecture": "softmax", "split": "test"}),
        lambda config: config["splits"]["parts"].update(P9={"of": "test", "range": [0, 5]}),
        lambda config: config["attacks"].update(
            unused={"method": "lbfgs", "targets": "nearest", "images": "test"}
        ),
        lambda config: config["models"]["softmax1"].update(weight_decay=[1.0e-4]),
        lambda config: config["models"]["M1"].update(activation="sigmoid"),
    ],
    ids=["study", "data_root", "download", "epochs", "model", "split", "attack", "list", "default"],
)
def test_edit_that_changes_no_output_changes_nothing(changed_by, edit):
    assert changed_by(edit) == set()


def test_decay_of_a_model_changes_what_depends_on_it(changed_by):
    """The model, its set, the rows that it stands in, and what follows; no other model or set."""
    changed = changed_by(lambda config: config["models"]["M1"].update(weight_decay=1.0e-3))
    assert {name for name in changed if name.startswith("train_model")} == {"train_model M1"}
    assert {name for name in changed if name.startswith("generate")} == {
        "generate_adversarial_set M1 test-random"
    }
    assert {name for name in changed if name.startswith("evaluate_transfer")} == {
        f"evaluate_transfer {model} test-random" for model in ("M1", "M1p", "M2")
    }
    assert {name for name in changed if name.startswith("evaluate_noise")} == {
        f"evaluate_noise {pool}" for pool in ("P1", "P2", "test")
    }
    assert "collect_transfer" in changed and "prepare_data" not in changed
    assert {f"tabulate table{n}" for n in (1, 2, 3, 4)} <= changed
    assert "plot_distortions cross_training_set" in changed
    assert "plot_distortions cross_model" not in changed


def test_noise_level_leaves_models_and_sets(changed_by):
    changed = changed_by(lambda c: c["experiments"]["cross_model"]["noise"].append(0.4))
    rows = {name for name in changed if name.startswith("evaluate")}
    assert rows == {"evaluate_noise train"}
    assert not steps(changed) & {"prepare_data", "train_model", "generate_adversarial_set"}


def test_amplified_level_leaves_models_sets_and_noise(changed_by):
    changed = changed_by(lambda c: c["experiments"]["cross_training_set"]["amplify"].append(0.4))
    rows = {name for name in changed if name.startswith("evaluate")}
    assert rows == {f"evaluate_transfer {model} test-random" for model in ("M1", "M1p", "M2")}
    assert not steps(changed) & {"prepare_data", "train_model", "generate_adversarial_set"}


@pytest.mark.parametrize(
    ("model", "edit"),
    [
        ("M1p", lambda m: m.update(widths=m["widths"][::-1])),
        ("M1p", lambda m: m.update(weight_decay=m["weight_decay"][::-1])),
        (
            "AE400-10",
            lambda m: m.update(
                weight_decay=m["pretraining"]["weight_decay"],
                pretraining={**m["pretraining"], "weight_decay": m["weight_decay"]},
            ),
        ),
    ],
    ids=["widths", "decays of layers", "decays of code and softmax"],
)
def test_swapped_values_are_another_model(changed_by, model, edit):
    """Specifications have order and keys; a set of the same values would not tell."""
    changed = changed_by(lambda config: edit(config["models"][model]))
    assert {n for n in changed if n.startswith("train_model")} == {f"train_model {model}"}


def test_new_model_leaves_models_and_sets(changed_by):
    def edit(config):
        config["experiments"]["cross_training_set"]["sources"].append("conv")

    changed = changed_by(edit)
    assert {name for name in changed if name.startswith(("train_model", "generate"))} == {
        "train_model conv",
        "generate_adversarial_set conv test-random",
    }


def test_name_of_a_split_leaves_models_and_sets(changed_by):
    """What counts is which images it holds."""

    def edit(config):
        parts = config["splits"]["parts"]
        parts["all"] = {"of": "train", "share": [0.0, 1.0]}
        parts["half"] = parts["P2"]
        config["models"]["M2"]["split"] = "half"

    assert changed_by(edit) == set()


def test_new_seed_leaves_the_jobs_of_the_others(config, study_of):
    one = study_of(config)
    two = study_of({**config, "seeds": [0, 1]})
    for model, attack in sets(one):
        for step, wildcards in (
            ("train_model", {"model": model}),
            ("generate_adversarial_set", {"model": model, "attack": attack}),
            ("evaluate_transfer", {"model": model, "attack": attack}),
        ):
            first = two.job(step, seed=0, **wildcards).digest
            assert first == one.job(step, seed=0, **wildcards).digest
            assert first != two.job(step, seed=1, **wildcards).digest
    assert one.job("collect_transfer").digest != two.job("collect_transfer").digest


def test_option_of_an_attack_changes_its_sets(changed_by):
    changed = changed_by(lambda c: c["attacks"]["test-random"].update(options={"evaluations": 9}))
    assert {name for name in changed if name.startswith("generate")} == {
        f"generate_adversarial_set {model} test-random" for model in ("M1", "M1p", "M2")
    }
    assert "train_model" not in steps(changed) and "evaluate_noise" not in steps(changed)


def test_settings_reach_only_the_models_that_use_them(changed_by):
    """Momentum is for sgd: none uses it; a model's own training overrides the study's."""
    changed = changed_by(lambda config: config["training"].update(max_evaluations=900))
    assert steps(changed) >= {"train_model"} and "prepare_data" not in changed

    def edit(config):
        for model in config["models"].values():
            model["training"] = {**model.get("training", {}), "max_evaluations": 1000}

    assert changed_by(edit) == set()


def test_preconditioner_is_one_of_lbfgs(config, study_of):
    """And of the code of an auto-encoder, which L-BFGS trains, whatever trains the classifier."""
    config["training"]["preconditioner"] = "none"
    config["models"]["AE400-10"]["training"] = {"optimizer": "sgd"}
    study = study_of(config)
    trained = {
        name: study.model(name, 0).settings["training"] for name in ("softmax1", "conv", "AE400-10")
    }
    assert trained["softmax1"]["preconditioner"] == "none"
    assert "preconditioner" not in trained["conv"]
    assert "preconditioner" not in trained["AE400-10"]
    assert trained["AE400-10"]["pretraining"]["preconditioner"] == "none"


def test_dataset_changes_everything(config, changed_by):
    before = {"prepare_data", "collect_transfer", "plot_noise_examples figure7c"}
    changed = changed_by(lambda config: config.update(dataset="digits"))
    assert before <= changed
    assert steps(changed) >= {"train_model", "generate_adversarial_set", "evaluate_transfer"}


def test_printed_numbers_belong_to_mnist(config, study_of):
    """On another data set no table is compared with them."""
    for dataset, there in (("mnist", True), ("digits", False)):
        study = study_of({**config, "dataset": dataset})
        spec = json.loads(study.job("tabulate", table="table1").spec)
        assert bool(spec["printed"]) is there


def test_edit_of_printed_numbers_changes_their_table(config, schema, reference, tmp_path):
    for path in reference.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = specs(Study(config, schema, tmp_path, []))
    with (tmp_path / config["tables"]["table1"]["printed"]).open("a") as stream:
        stream.write("\n")
    after = specs(Study(config, schema, tmp_path, []))
    assert {name for name in after if after[name] != before[name]} == {"tabulate table1"}


def test_clipped_variants_are_added_to_the_others(config, study_of):
    config["experiments"]["cross_training_set"]["clip"] = True
    study = study_of(config)
    wildcards = {"model": "M1", "seed": 0, "attack": "test-random"}
    variants = json.loads(study.job("evaluate_transfer", **wildcards).spec)["variants"]
    levels = config["experiments"]["cross_training_set"]["amplify"]
    assert variants[0] == {"kind": "as_found"}
    assert [v["level"] for v in variants if v.get("clip")] == levels
    assert [v["level"] for v in variants[1:] if not v.get("clip")] == levels


def test_experiments_that_share_a_set_share_its_row(config, study_of):
    """The set is made once; its row holds the victims and levels of both."""
    config["run"].append("more")
    config["experiments"]["more"] = {
        "attack": "test-random",
        "sources": ["M1"],
        "victims": ["conv", "M2"],
        "amplify": [0.1, 0.5],
    }
    study = study_of(config)
    assert len(sets(study)) == len(set(sets(study)))
    four = [(name, 0) for name in ("M1", "M1p", "M2", "conv")]
    assert row_victims(study, "M1", "test-random", 0) == four
    assert row_victims(study, "M2", "test-random", 0) == four[:3]
    wildcards = {"model": "M1", "seed": 0, "attack": "test-random"}
    variants = json.loads(study.job("evaluate_transfer", **wildcards).spec)["variants"]
    levels = [variant["level"] for variant in variants[1:]]
    assert len(levels) == len(set(levels)) and {0.1, 0.5} <= set(levels)


def test_user_module_is_part_of_the_code(config, study_of, tmp_path):
    """An edit of its file changes its model's code and no other; a missing one is told."""
    config["models"]["own"] = {"architecture": "own_model:build", "split": "train"}
    config["experiments"]["cross_model"]["sources"].append("own")
    with pytest.raises(UserError, match="own_model"):
        jobs(study_of(config))
    (tmp_path / "own_model.py").write_text("WIDTH = 1\n")
    study = study_of(config)
    assert (
        study.job("train_model", model="own", seed=0).code
        != study.job("train_model", model="M1", seed=0).code
    )
    assert "train_model own" in jobs(study)


PACKAGES = {"sklearn": "scikit-learn", "PIL": "pillow"}
# What steps import and no specification names, and why it changes no byte of their outputs.
HARMLESS = {
    "safetensors": "the container; content has a digest of its own",
    "torchvision": "downloads files, whose digests are checked; foolbox imports it",
    "joblib": "says how many threads a classifier may be fitted with",
    "threadpoolctl": "says the same to the libraries below",
}


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_versions_of_all_that_a_step_imports_are_in_its_specification(config, study_of, dataset):
    config["figures"]["examples"]["figure7a"]["stored"] = {"as": "png"}
    config["models"]["svm"] = {"estimator": "sklearn.svm:SVC", "split": "P1"}
    config["experiments"]["cross_model"]["victims"] = ["svm"]
    study = study_of({**config, "dataset": dataset, "run": list(config["experiments"])})
    for job in {(job.rule, job.module): job for job in study.jobs}.values():
        modules = (job.module, *job.modules)
        found = {name for module in modules for name in imported(module)} - HARMLESS.keys()
        if job.rule == "prepare_data":
            found -= {"torch"}
        if job.rule == "collect_transfer":
            found -= {"numpy"}  # of the functions that write tensors
        if job.rule != "prepare_data" and "svm" not in job.wildcards.values():
            found -= {"sklearn", "skops"}  # of classifiers, in whose own jobs their versions are
        found = {PACKAGES.get(library, library) for library in found}
        assert found <= json.loads(job.spec).get("versions", {}).keys(), job.rule


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__.split(".")[-1])
def test_sources_name_the_libraries_that_they_import(source):
    """Torch may be imported by way of torchvision, which reads nothing itself."""
    found = imported(source.__name__) - HARMLESS.keys() - {"torch"}
    assert {PACKAGES.get(library, library) for library in found} <= {*source.PACKAGES}


def imported(module):
    """Return the libraries that a module and the package modules behind it import."""
    found = set()
    for name in fingerprint._closure(module):
        tree = ast.parse(fingerprint._source_path(name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
    return {name.split(".")[0] for name in found} - sys.stdlib_module_names - {"blindspots"}


def test_mistake_is_told_on_construction(config, study_of):
    with pytest.raises(UserError, match="sedes"):
        study_of({**config, "sedes": [0]})


def test_parts_of_a_set_change_nothing_but_who_makes_it(config, study_of, changed_by):
    assert changed_by(lambda c: c["attacks"]["test-random"].update(parts=4)) == set()
    config["attacks"]["test-random"]["parts"] = 4
    study = study_of(config)
    assert "test-random" in attacks_in_parts(study, True)
    assert "test-random" not in attacks_in_parts(study, False)
    wildcards = {"model": "M1", "seed": 0, "attack": "test-random"}
    whole = json.loads(study.job("generate_adversarial_set", **wildcards).spec)
    part = json.loads(study.job("generate_part_of_adversarial_set", **wildcards, part=3).spec)
    assert part == {**whole, "part": [3, 4]}


def many(config, count, **lists):
    """Return the configuration of one experiment alone, some of whose lists name many models."""
    names = [f"S{number}" for number in range(count)]
    config["models"] |= {name: config["models"]["softmax1"] | {"label": name} for name in names}
    first, entry = next(iter(config["experiments"].items()))
    lists = {key: names if models == "many" else models for key, models in lists.items()}
    config["experiments"] = {first: entry | lists}
    del config["run"]
    return config | {"tables": {}, "figures": {"examples": {}}}


@pytest.mark.parametrize(
    ("count", "lists", "told"),
    [
        (1700, {"sources": ["M1"], "victims": "many"}, "1700 victims"),
        (1300, {"sources": "many", "victims": ["M1"]}, "1300 sets"),
    ],
)
def test_more_models_than_a_command_can_name(config, study_of, count, lists, told):
    with pytest.raises(UserError, match=f"{told} are more than one command can name"):
        study_of(many(config, count, **lists))


def test_thousand_models_are_not_too_many(config, study_of):
    study_of(many(config, 1000, sources="many", victims="many"))


def test_more_rows_than_a_command_can_name(config, study_of):
    config["seeds"] = list(
        range(2500 // len(study_of(config).job("collect_transfer").inputs["rows"]))
    )
    with pytest.raises(UserError, match="rows are more than one command can name; split"):
        study_of(config)


def test_versions_of_an_environment(config):
    refuse_other_versions({"numpy": version("numpy")})
    with pytest.raises(UserError, match=r"asks for numpy 0\.1, and beside snakemake there is"):
        refuse_other_versions({"numpy": "0.1"})
    with pytest.raises(UserError, match="no-such-package is not installed beside snakemake"):
        refuse_other_versions({"no-such-package": "1"})


def test_only_what_is_run_is_made(config, study_of):
    """With the tables and grids that show it; models that nothing needs are left."""
    config["run"] = ["cross_training_set"]
    study = study_of(config)
    assert study.used_models == ["M1", "M1p", "M2"]
    assert set(study.captions()["experiments"]) == {"cross_training_set"}
    made = {path for job in study.jobs for path in job.paths}
    assert "tables/table4.csv" in made and "tables/table1.csv" not in made
    assert not any("adversarial_examples" in path for path in made)
    config["run"] = ["cross_modle"]
    with pytest.raises(UserError, match=r"no experiment 'cross_modle' \(did you mean cross"):
        study_of(config)
    config["run"] = ["frames"]
    steps = {job.rule for job in study_of(config).jobs}
    kind = {"measure_frames", "tabulate_frames", "plot_frames"}
    assert steps == {"prepare_data", "train_model"} | kind
