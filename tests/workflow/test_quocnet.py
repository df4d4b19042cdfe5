"""Detectors of one class on data of ten: table, figures, and what else is asked of them."""

import csv

import yaml

STAGES = [{"filters": 8, "kernel": 3, "pool": 3, "stride": 1}]
CONFIG = {
    "study": "tiny",
    "dataset": "digits",
    "threads": {"train": 1, "attack": 1, "evaluate": 1},
    "splits": {
        "parts": {
            "eights": {"of": "train", "share": [0.0, 1.0], "detect": 8},
            "eights-test": {"of": "test", "share": [0.0, 1.0], "detect": 8},
            "eights-few": {"of": "test", "share": [0.0, 1.0], "detect": 8, "each": 6},
        }
    },
    "models": {
        "quoc": {"label": "QuocNet | $", "features": "rica", "stages": STAGES, "split": "eights"},
        "drawn": {"features": "random", "stages": STAGES, "split": "eights"},
        "pixels": {"features": "pixels", "split": "eights"},
        "linear": {"estimator": "sklearn.svm:LinearSVC", "split": "eights"},
    },
    "attacks": {"eights": {"method": "ddn", "targets": "untargeted", "images": "eights-few"}},
    "experiments": {
        "detectors": {
            "kind": "quocnet",
            "models": ["quoc", "drawn", "pixels"],
            "attack": "eights",
            "images": "eights-test",
        },
        "across": {
            "attack": "eights",
            "sources": ["quoc"],
            "victims": ["quoc", "linear"],
            "clean": ["eights-test"],
            "noise": [0.1],
            "stored": [{"as": "png", "stretch": "survive"}],
        },
    },
    "figures": {"examples": {"eights": {"attack": "eights", "source": "quoc"}}},
}


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_detectors_from_data_to_figures(fresh):
    fresh.config.write_text(yaml.safe_dump(CONFIG))
    fresh.make()
    rows = rows_of(fresh.results / "quocnet/detectors.csv")
    assert [(row["features"], row["stages"], row["direction"]) for row in rows] == [
        (features, stages, direction)
        for features, stages in (("rica", "1"), ("random", "1"), ("pixels", "0"))
        for direction in ("8 -> not 8", "not 8 -> 8")
    ]
    assert {row["data"] for row in rows} == {"UCI digits, 8"}
    assert {float(row["success"]) for row in rows} == {1.0}
    assert all(float(row["balanced_accuracy"]) > 0.8 for row in rows)
    assert all(0 < float(row["rms_low"]) < float(row["rms"]) < 0.2 for row in rows)
    for name in ("quocnet/detectors.svg", "quocnet_examples/detectors.png"):
        assert (fresh.results / "figures" / name).stat().st_size > 10000
    # The jobs of transfer take detectors as any models of two classes.
    cells = rows_of(fresh.results / "transfer.csv")
    own = [
        c
        for c in cells
        if (c["source"], c["victim"], c["variant"]) == ("quoc",) * 2 + ("as_found",)
    ]
    assert [float(cell["error"]) for cell in own] == [1.0]
    clean = [c for c in cells if c["source"] == "noise" and c["variant"] == "clean"]
    assert all(float(c["error"]) < 0.2 for c in clean if c["attack"] == "eights-test")

    fresh.edit_config(lambda config: config["models"]["quoc"].update(label="Other"))
    assert not {job for job in fresh.planned() if job.startswith(("train", "generate", "measure"))}
    fresh.edit_config(
        lambda config: config["splits"]["parts"]["eights-test"].update(share=[0, 0.9])
    )
    planned = {job.split()[0] for job in fresh.planned()}
    assert "measure_detector" in planned
    assert "train_model" not in planned
