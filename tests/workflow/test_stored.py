"""The tiny study with stored images: its table, its grid, and what an edit of either reruns."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

WAYS = [{"as": "png"}, {"as": "truncated"}, {"as": "png", "stretch": "survive"}]
STORED = {"as": "png", "stretch": "survive"}


def with_storage(config):
    config["experiments"]["pairs"]["stored"] = WAYS
    config["figures"]["examples"]["kept"] = {
        "attack": "few-random",
        "source": "A",
        "stored": STORED,
    }


@pytest.fixture
def stored(finished):
    """The finished tiny study, then with stored images, and the jobs that this has run."""
    before = finished.contents()
    finished.edit_config(with_storage)
    planned = finished.planned()
    finished.make()
    return finished, before, planned


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


class Cells(HTMLParser):
    """Collects the texts of the cells of a page."""

    def __init__(self, page):
        super().__init__()
        self.texts = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in ("td", "th"):
            self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data


def test_table_and_grid_of_stored_images(stored):
    project, before, planned = stored
    results = project.results
    # What is stored is another row; models, sets and the other grids are what they were.
    assert not {job for job in planned if job.startswith(("train", "generate", "plot_noise"))}
    assert {job for job in planned if job.startswith("measure_storage")} == {
        f"measure_storage {model} 0 few-random" for model in "ABC"
    }
    assert {"tabulate_storage pairs", "plot_adversarial_examples kept"} <= planned
    assert "plot_adversarial_examples distorted" not in planned
    after = project.contents()
    for name in before:
        if name.startswith(("models", "adversarial", "figures/adversarial_examples")):
            assert after[name] == before[name], name
    assert "Nothing to be done" in project.make()

    # The table is that of transfer.csv, each source its own victim.
    cells = {
        (row["source"], row["variant"]): row
        for row in rows_of(results / "transfer.csv")
        if row["source"] == row["victim"]
    }
    table = rows_of(results / "storage/pairs.csv")
    assert [(row["model"], row["of"]) for row in table] == [
        (model, of) for model in ("Model A", "B", "C") for of in ("attacked", "successes")
    ]
    for row in table:
        name = row["model"].removeprefix("Model ")
        for way in ("as_found", "stored_png", "stored_truncated", "stored_png_survive"):
            cell = cells[name, way]
            total = int(cell["n_attacked"])
            if row["of"] == "successes":
                total -= int(cell["n_failed"])
            assert int(row["images"]) == total
            assert float(row[way]) == pytest.approx(int(cell["target_hit"]) / total, rel=1e-5)
            assert float(row[f"{way}_low"]) <= float(row[way]) <= float(row[f"{way}_high"])
        record = json.loads((results / f"storage/{name}/seed0/few-random.json").read_text())
        for measure in ("margin", "statistical_share", "rounding_rms"):
            mean = record["measures"][measure]["mean"]
            assert float(row[measure]) == pytest.approx(mean, rel=1e-5)
        assert float(row["stored_truncated"]) < float(row["stored_png"]) < 1
        if row["of"] == "successes":
            assert float(row["as_found"]) == float(row["stored_png_survive"]) == 1

    texts = [text.strip() for text in Cells((results / "storage/pairs.html").read_text()).texts]
    assert {"Model A", "PNG", "cut off", "until it survives, PNG"} <= set(texts)
    share = 100 * float(table[0]["stored_png"])
    assert any(text.startswith(f"{share:.2f} %[") for text in texts)

    # The grid shows other pixels than the one of the images as found.
    grids = results / "figures/adversarial_examples"
    assert (grids / "kept.png").read_bytes() != (grids / "distorted.png").read_bytes()

    project.make("--report", "report.html")
    page = (project.path / "report.html").read_text()
    assert "storage/pairs.html" in page and "adversarial_examples/kept.png" in page
    words = re.sub(r"(\\n|\s)+", " ", page)  # captions stand in scripts, with their line ends
    assert "read back from 8-bit PNG files" in words and "after they were stored" in words


def test_sources_must_be_victims(fresh):
    def without_a(config):
        with_storage(config)
        config["experiments"]["pairs"]["victims"] = ["B", "C"]

    fresh.edit_config(without_a)
    done = fresh.snakemake("--dry-run")
    assert done.returncode != 0
    assert "experiments.pairs.victims: A is not among them" in done.stdout
