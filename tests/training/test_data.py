"""The images of a run: what is read of them once, and when they are those of an interrupted run."""

import numpy as np
import pytest
import torch
from layouts import labelme

from config import ConfigError, load_config
from formats.base import Label
from renderer.dataset_writer import write_dataset
from runtime.files import write_text
from training.data import MAX_STATS, MIN_STATS, STATS_EVERY, fingerprint, load_data, with_input_scale

CPU = torch.device("cpu")


def data_of(settings, *overrides):
    return load_data(load_config(None, [*settings, *overrides]), CPU)


def test_both_data_sets_with_their_labels(settings):
    data = data_of(settings)
    assert (len(data.train_set), len(data.val_set), data.part_sizes) == (24, 8, [24])
    assert data.val_gt.indices == list(range(8)) and len(data.val_gt.labels) == 8
    train_names, val_names = list(data.train_set.samples.names()), list(data.val_set.samples.names())
    assert list(data.val_gt.samples.names()) == val_names
    assert data.train_gt.indices == [0, 6, 12, 18], "MIN_STATS of them, evenly spaced"
    assert list(data.train_gt.samples.names()) == [train_names[i] for i in (0, 6, 12, 18)]
    assert data.val_gt.metric.name == data.train_gt.metric.name == "tusimple"
    assert not set(train_names) & set(val_names)


def test_the_share_of_training_images_for_statistics():
    assert (STATS_EVERY, MIN_STATS, MAX_STATS) == (40, 4, 2000)


def test_a_fraction_may_be_written_without_quotes(settings):
    data = data_of(settings, "data.split=0.125")
    assert (len(data.train_set), len(data.val_set)) == (28, 4), "not 24 and 8 as its own lists have it"


def test_labels_for_images_of_another_size_are_told(tmp_path, settings):
    root = labelme(tmp_path / "mine", ["a.jpg", "b.jpg"])
    words = [f"data.root=[{root}]", "data.split=0.5", "data.cache=false"]
    assert not any("another size" in note for note in data_of(settings, *words).notes)
    path = root / "a.json"
    path.write_text(path.read_text().replace('"imageWidth": 320', '"imageWidth": 640'))
    assert any("1 of 2 labels that were looked at are for images of another size, such as 640x180 for one of 320x180"
               in note for note in data_of(settings, *words).notes)


def test_the_same_data_has_the_same_fingerprint_with_and_without_a_cache(settings):
    assert data_of(settings).fingerprint == data_of(settings, "data.cache=false").fingerprint


@pytest.mark.parametrize(("setting", "roots", "expected"), [
    ("auto", ["scenes"], 0.87), ("auto", ["scenes", "scenes"], 0.87),
    ("auto", ["scenes", "real"], 1), ("auto", ["real"], 1), ("auto", ["missing"], 1),
    ("0.7", ["scenes"], 0.7), ("1", ["scenes"], 1), ("0.9", ["real"], 0.9)])
def test_rendered_images_alone_are_trained_on_smaller_than_the_input(tmp_path, setting, roots, expected):
    write_dataset(tmp_path / "scenes", 1, 1, seed=0, width=96, height=64, workers=1)
    (tmp_path / "real").mkdir()
    write_text(tmp_path / "real/manifest.json", '["of another program"]')
    folders = ", ".join(str(tmp_path / root) for root in roots)
    config = load_config(None, [f"train.input_scale={setting}", f"data.root=[{folders}]"])
    scaled = with_input_scale(config)
    assert scaled.train.input_scale == expected and scaled.data == config.data


def test_roots_without_weight_and_the_version_of_the_scenes_do_not_matter_to_the_input_scale(tmp_path):
    for name, manifest in (("scenes", '{"renderer": 3, "seed": 0}'), ("real", "{}")):
        (tmp_path / name).mkdir()
        write_text(tmp_path / name / "manifest.json", manifest)
    for weights, expected in (("[1, 0]", 0.87), ("[0, 1]", 1), ("[0.9, 0.1]", 1)):
        config = load_config(None, [f"data.root=[{tmp_path}/scenes, {tmp_path}/real]", f"data.weights={weights}"])
        assert with_input_scale(config).train.input_scale == expected


def test_a_split_without_validation_images_is_refused(settings):
    with pytest.raises(ConfigError, match=r"data\.split=clip>=999999 leaves no image to validate on; try"):
        data_of(settings, "data.split=clip>=999999")


def test_a_fingerprint_tells_names_their_order_and_labels_apart():
    lane = np.array([[1, 2], [3, 4]], np.float32)
    cases = [(["a", "b"], [Label([lane])]), (["b", "a"], [Label([lane])]), (["a"], [Label([lane])]),
             (["ab"], [Label([lane])]), (["a", "b"], [Label([lane + 1])]), (["a", "b"], [Label([])]),
             (["a", "b"], [Label([lane, lane])])]
    prints = [fingerprint(*case) for case in cases]
    assert len(set(prints)) == len(cases)
    assert prints == [fingerprint(iter(names), iter(labels)) for names, labels in cases]
    assert all(len(text) == 16 for text in prints)
