"""What several test files need: data, models, a training, a run of inference, and quiet use of the machine."""

import gc

import cv2
import numpy as np
import pytest
import torch
from trainings import SHORT

import inference_fixed
import train_fixed
from config import Config, ModelConfig
from model import LaneNet
from renderer import dataset_writer
from runtime.checkpoint import save_checkpoint


def pytest_collection_finish():
    """What is imported by now stays to the end: garbage is collected among the rest alone, in a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and a run repeats itself whatever else the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The test runs in an empty folder, so that no default path is one of the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A folder with 24 rendered scenes to train on and 8 to validate on, 320x180, in the TuSimple layout."""
    root = tmp_path_factory.mktemp("rendered")
    dataset_writer.write_dataset(root, 24, 8, seed=3, width=320, height=180, workers=1)
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


@pytest.fixture(scope="module")
def net():
    """A network with equal rows over the whole image: the closed forms are plainer."""
    torch.manual_seed(0)
    return LaneNet().eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A model that has learned nothing, but whose lanes depend on the image and are all reported."""
    torch.manual_seed(0)
    model = LaneNet()
    with torch.no_grad():
        model.head.columns.weight *= 30
        model.head.exists[-1].bias += 3
        for number, parameter in enumerate(model.head.exists[-1].bias):
            parameter += 0.1 * number  # so that every slot has a confidence of its own
    path = tmp_path_factory.mktemp("model") / "model.pth"
    save_checkpoint(path, Config(model=ModelConfig(width=160, height=96)), model=model.state_dict(),
                    scores={"steps": 0})
    return path


@pytest.fixture
def run(checkpoint, capsys):
    """A function that runs inference_fixed.py on words; returns its status, its lines on stdout and those on stderr."""
    def call(*words):
        status = inference_fixed.main([*map(str, words), "--checkpoint", str(checkpoint), "train.device=cpu",
                                       "train.precision=fp32"])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return call


@pytest.fixture(scope="session")
def settings(rendered, tmp_path_factory):
    """Overrides that train fast on the rendered scenes, all runs with one cache."""
    return [*SHORT, f"data.root={rendered}", f"data.cache_dir={tmp_path_factory.mktemp('pixels')}"]


@pytest.fixture(scope="session")
def trained(settings, tmp_path_factory):
    """The checkpoint folder of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    assert train_fixed.main([*settings, "train.epochs=2", f"train.checkpoint_dir={folder}"]) == 0
    return folder
