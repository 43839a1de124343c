"""What several test files need: a rendered data set, and quiet use of the machine."""

import cv2
import numpy as np
import pytest
import torch

import synthetic


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and a run repeats itself whatever else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A folder with 24 rendered scenes to train on and 8 to validate on, 320x180, in the TuSimple layout."""
    root = tmp_path_factory.mktemp("rendered")
    synthetic.write_dataset(root, 24, 8, seed=3, width=320, height=180, workers=1)
    return root


@pytest.fixture
def images(tmp_path):
    """A folder of seven images with one lane each."""
    root = tmp_path / "images"
    root.mkdir()
    for i in range(7):
        cv2.imwrite(str(root / f"{i}.png"), np.full((36, 64, 3), 30 * i, np.uint8))
        (root / f"{i}.lines.txt").write_text("20 35 25 25 30 15\n")
    return root
