"""What unit and workflow tests share: the repository and its configuration."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def root():
    """Folder of the repository."""
    return ROOT


@pytest.fixture
def config():
    """A fresh copy of config.yaml."""
    return deepcopy(CONFIG)


@pytest.fixture
def schema():
    """A fresh copy of the schema of the configuration."""
    return deepcopy(SCHEMA)


@pytest.fixture
def reference():
    """Folder of the printed numbers."""
    return ROOT / "workflow/reference"
