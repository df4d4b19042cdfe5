"""What the next run will do and why, in words."""

from pathlib import Path

import pytest

from blindspots.artifacts import write_record, write_sidecar, write_tensors
from blindspots.study.dry_run import DryRun, PlannedJob
from blindspots.study.explain import in_words, left_over, why

OLD = {
    "caption": "Old",
    "decay": [1.0e-5, 1.0e-4],
    "options": {},
    "victims": ["A", "B"],
    "upstream": {"set": "s", "victims": {"A": "a", "B": "b"}},
    "versions": {"torch": "1"},
}
# What is different now, and how it is told.
CHANGES = {
    "setting": ({"caption": "New"}, 'caption "Old" -> "New"'),
    "swapped numbers": ({"decay": [1.0e-4, 1.0e-5]}, "decay [1e-05, 0.0001] -> [0.0001, 1e-05]"),
    "new key": ({"options": {"pairs": 5}}, "options.pairs 5 is new"),
    "library": ({"versions": {"torch": "2"}}, 'versions.torch "1" -> "2"'),
    "entries": ({"victims": ["A", "C"]}, 'victims: "C" added, "B" removed'),
    "order": ({"victims": ["B", "A"]}, 'victims ["A", "B"] -> ["B", "A"]'),
    "inputs": (
        {"upstream": {"set": "t", "victims": {"A": "a", "B": "c"}}},
        "changed input: set, victims B",
    ),
    "several": (
        {"caption": "New", "upstream": {"set": "t", "victims": {"A": "a"}}},
        'caption "Old" -> "New"; changed input: set',
    ),
}


def job(output, spec=OLD, code="step", reason="Updated input files: x"):
    return PlannedJob(
        "evaluate_transfer", {"model": "A", "seed": "0"}, [output], spec, code, reason
    )


def artifact(path, code="step"):
    """Write an artifact that was made from `OLD`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"job": "j", "spec": OLD, "code": code}
    if path.suffix == ".safetensors":
        write_tensors(path, {}, record)
    elif path.suffix == ".json":
        write_record(path, {**record, "rows": []})
    else:
        path.write_text("x")
        write_sidecar([path], record)
    return path


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["table.csv", "row.json", "set.safetensors"])
def test_changed_settings_are_told(tmp_path, change, name):
    different, words = CHANGES[change]
    assert why(job(artifact(tmp_path / name), {**OLD, **different})) == words


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ("step", "other", "the code of the step"),
        ("step-mine", "step-other", "your own module"),
        ("step-mine", "other-other", "the code of the step; your own module"),
    ],
)
def test_changed_code_is_told(tmp_path, before, now, words):
    assert why(job(artifact(tmp_path / "table.csv", before), code=now)) == words


def test_without_a_cause_of_our_own_snakemake_is_quoted(tmp_path):
    """Also where an artifact cannot be read."""
    path = artifact(tmp_path / "row.json")
    assert why(job(path)) == "Updated input files: x"
    path.write_text("{")
    assert why(job(path)) == "Updated input files: x"
    path.unlink()
    assert why(job(path)) == "not there yet"


def test_what_is_left_over(tmp_path):
    """Artifacts of other configurations; not logs, cells, or what lies beside an artifact."""
    names = ("data.safetensors", "models/B.safetensors", "rows/A.json", "t/one.csv", "t/two.csv")
    paths = [artifact(tmp_path / name) for name in names]
    for other in ("cells/key.json", "logs/step.log", "report.html"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text('{"counts": {}}')
    assert left_over(paths) == []
    assert left_over([paths[0], paths[2], paths[3]]) == [paths[1], paths[4]]


def test_waiting_parts_are_not_left_over(tmp_path):
    """They are no artifacts of the study, but what one of its sets will be joined from."""
    part = artifact(tmp_path / "seed0/random.parts/3.safetensors")
    data = artifact(tmp_path / "data.safetensors")
    assert left_over([data, tmp_path / "seed0/random.safetensors"]) == []
    assert left_over([data, tmp_path / "seed0/other.safetensors"]) == [part]


def test_jobs_of_one_cause_are_told_together(tmp_path):
    path = tmp_path / "none"
    jobs = [PlannedJob("train_model", {"model": m}, [path], {}, "", "") for m in "CAB"]
    jobs.append(PlannedJob("collect_transfer", {}, [path], {}, "", ""))
    assert in_words(DryRun(jobs), [Path("old.csv")]).splitlines() == [
        "4 jobs will run; all else is up to date.",
        "train model (3)",
        "  A, B, C: not there yet",
        "collect transfer (1)",
        "  not there yet",
        "No longer part of the study, and left where it is:",
        "  old.csv",
    ]


def test_many_names_are_counted(tmp_path):
    jobs = [
        PlannedJob("tabulate", {"table": f"t{n}"}, [tmp_path / "none"], {}, "", "")
        for n in "0" * 20
    ]
    assert ", t0 and 12 more: not there yet" in in_words(DryRun(jobs), [])


def test_finished_study_needs_nothing():
    assert in_words(DryRun(), []) == "Nothing will run: every artifact of the study is up to date."
