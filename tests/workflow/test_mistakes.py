"""A user's mistakes are answered with one sentence, exit code 1, and nothing written."""

import pytest
import yaml

MISTAKES = {
    "unknown model": (
        lambda c: c["experiments"]["pairs"].update(sources=["A", "Bb"]),
        "there is no model 'Bb' (did you mean B?)",
    ),
    "unknown key": (
        lambda c: c["models"]["B"].update(weight_dekay=1),
        "models.B.weight_dekay is not a known key (did you mean weight_decay?)",
    ),
    "overlapping halves": (
        lambda c: c["splits"]["parts"]["P2"].update(share=[0.4, 1.0]),
        "P1 and P2 share",
    ),
    "number read as text": (
        lambda c: c["models"]["B"].update(weight_decay="1e-3"),
        "write 1.0e-3",
    ),
    "study name with a slash": (
        lambda c: c.update(study="a/b"),
        "'a/b' may hold only letters",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_configuration(fresh, mistake):
    change, sentence = MISTAKES[mistake]
    fresh.edit_config(change)
    done = fresh.snakemake()
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.path / "results").exists()


def test_missing_data_names_the_file_and_the_ways_out(fresh, tmp_path):
    config = yaml.safe_load(fresh.config.read_text())
    config.update(dataset="mnist", download=False)
    fresh.config.write_text(yaml.safe_dump(config))
    done = fresh.snakemake(BLINDSPOTS_DATA=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/MNIST/raw/train-images-idx3-ubyte is missing" in done.stdout
    assert "BLINDSPOTS_DATA" in done.stdout
    assert "STUDY=digits" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (fresh.results / "data.safetensors").exists()


def test_capped_threads_are_said_in_the_log(fresh):
    fresh.edit_config(lambda c: c["threads"].update(train=2))
    fresh.make("results/tiny/models/A/seed0.safetensors", cores=1)
    log = (fresh.results / "logs/train_model/A-seed0.log").read_text()
    assert "threads were capped at 1 of 2" in log
