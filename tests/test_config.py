"""Settings: the shipped file is the defaults, and every mistake is named."""


import pytest
from paths import ROOT

from config import Config, ConfigError, config_from_dict, load_config, to_dict


def test_shipped_file_spells_out_every_default():
    assert load_config(ROOT / "config.yaml") == Config()
    import yaml

    shipped = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert {s: list(v) for s, v in shipped.items()} == {s: list(v) for s, v in to_dict(Config()).items()}


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda p: p.name)
def test_every_recipe_loads(path):
    load_config(path)


def test_round_trip_through_plain_values():
    config = load_config(None, ["data.root=[a, b]", "train.learning_rate=1e-4", "model.pretrained=weights.pth"])
    assert config.data.root == ("a", "b")
    assert config.train.learning_rate == 1e-4
    assert config_from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epoch=3", ["train.epoch", "did you mean 'train.epochs'"]),
        ("trian.epochs=3", ["trian", "did you mean 'train'"]),
        ("train.epochs=many", ["train.epochs", "'many'", "expected int"]),
        ("train.epochs=true", ["train.epochs", "expected int"]),
        ("train.epochs=0", ["train.epochs is 0", "expected 1 to"]),
        ("model.width=330", ["model.width is 330", "multiple of 32"]),
        ("model.slots=5", ["model.slots is 5", "multiple of 2"]),
        ("train.learning_rate=.nan", ["finite"]),
        ("train.device=tpu", ["'tpu'", "expected one of auto, cuda, mps, cpu"]),
        ("model.pretrained=3", ["expected bool or str"]),
        ("train.epochs=[1, 2", ["not valid YAML"]),
        ("epochs", ["section.key=value"]),
    ],
)
def test_mistake_is_named(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


BROKEN = ["- a\n- b\n", "train: 3\n", "train:\n  epochs: 1\n  epochs: 2\n", "a: [" * 2000, "\x00"]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_file_is_one_clear_line(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_who_is_wrong_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  epochs: 3\n")
    with pytest.raises(ConfigError, match=r"^command line: unknown key 'train\.epoch'"):
        load_config(file, ["train.epoch=3"])
    file.write_text("train:\n  epochs: many\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: train\.epochs is 'many'"):
        load_config(file, ["train.seed=3"])


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        load_config("nowhere.yaml")
