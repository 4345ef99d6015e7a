"""One training for all tests that need a trained discriminator, in processes of its own as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """Return a folder in which this plugin lies where it does in a clone of mmdisco."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "plugins").mkdir()
    (folder / "plugins" / FOLDER.name).symlink_to(FOLDER)
    return folder


@pytest.fixture(scope="session")
def mmdisco(clone):
    """Run `mmdisco ARGUMENTS` in that folder, without any plugin but this one."""

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "mmdisco_cli", *arguments],
            cwd=clone,
            env={**os.environ, "MMDISCO_PLUGINS": "mmdisco-example", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def trained(mmdisco, clone):
    """Return the recipe's file in that folder, once its discriminator is trained."""
    recipe = clone / "plugins" / FOLDER.name / "theremin.yaml"
    mmdisco("train", "--recipe", str(recipe))
    return recipe
