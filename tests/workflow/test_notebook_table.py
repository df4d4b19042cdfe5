"""A notebook's numbers are those of a workflow."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch

import blindspots as bs
from blindspots.artifacts import read_tensors
from blindspots.experiments.transfer.fields import FIELDS
from blindspots.steps.weights import load_network

NAMES = ("source", "victim", "attack", "variant")


@pytest.fixture
def one_thread():
    """As many as the steps of the study have: others sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read_exactly(path):
    """Return a transfer table whose numbers are those that were written, to the last bit."""
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    return pd.DataFrame(
        [
            {k: v if k in NAMES else float(v) if v else np.nan for k, v in row.items()}
            for row in rows
        ]
    )


def test_table_of_a_notebook_is_that_of_the_workflow(finished, one_thread):
    """To the last bit in every column; but the attack has another name, and so have the images."""

    def whole(config):
        config["attacks"]["few-random"]["images"] = "test"
        config["experiments"]["pairs"]["sources"] = ["A", "B"]

    finished.edit_config(whole)
    finished.make("results/tiny/transfer.csv")
    made = read_exactly(finished.results / "transfer.csv")
    assert list(made.columns) == list(FIELDS)
    device = torch.device("cpu")
    models = {
        name: load_network(finished.results / f"models/{name}/seed0.safetensors", None, device)[0]
        for name in ("A", "B")
    }
    data, _ = read_tensors(finished.results / "data.safetensors")
    matrix = bs.transfer_matrix(
        models,
        data["test_images"].astype(np.float32) / 16,
        data["test_labels"],
        targets="random",
        amplify=[0.2],
        noise=[0.1],
        chunk=100,
    )
    renamed = made.replace({"attack": {"few-random": "lbfgs", "test": "images"}})
    pd.testing.assert_frame_equal(
        matrix.table, renamed.astype(matrix.table.dtypes), check_exact=True
    )
    errors = made[made["variant"] == "as_found"].set_index(["source", "victim"])["error"]
    assert matrix.error.stack().to_dict() == errors.to_dict()
    attacked = made.drop_duplicates("source").set_index("source")["n_attacked"]
    assert matrix.left_out == {name: 500 - attacked[name] for name in models}
