"""Settings: the shipped file is the defaults, every mistake is named, and old names still work."""

import pytest
import yaml
from paths import ROOT

from config import RENAMED, Config, ConfigError, config_from_dict, load_config, to_dict


def test_shipped_file_spells_out_every_default():
    assert load_config(ROOT / "config.yaml") == Config()
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text())
    order = {section: list(keys) for section, keys in to_dict(Config()).items()}
    assert {section: list(keys) for section, keys in shipped.items()} == order and list(shipped) == list(order)
    lines = [line for line in (ROOT / "config.yaml").read_text().splitlines() if line.startswith("  ")]
    assert len(lines) == sum(map(len, order.values())), "a line a key"
    assert all("  # " in line and len(line) <= 120 for line in lines), "each with a comment"


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*.yaml")), ids=lambda p: p.name)
def test_every_recipe_loads_and_has_the_order_of_the_defaults(path):
    assert load_config(path) != Config()
    recipe, order = yaml.safe_load(path.read_text()), to_dict(Config())
    assert list(recipe) == [section for section in order if section in recipe]
    for section, keys in recipe.items():
        assert list(keys) == [key for key in order[section] if key in keys]


def test_the_recipe_of_several_sets_has_a_rule_and_a_share_for_each():
    data = load_config(ROOT / "configs" / "several.yaml").data
    assert len(data.split) == len(data.weights) == 5 and sum(data.weights) == pytest.approx(1)
    assert (data.validate, data.split[0]) == ("all", "none"), "the rendered scenes only train"


def test_round_trip_through_plain_values():
    config = load_config(None, ["data.root=[a, b]", "train.learning_rate=1e-4", "model.pretrained=weights.pth"])
    assert config.data.root == ("a", "b")
    assert config.train.learning_rate == 1e-4
    assert config_from_dict(to_dict(config)) == config


@pytest.mark.parametrize("key", ["train.learning_rate", "inference.threshold", "train.input_scale"])
def test_a_number_may_have_an_exponent(key):
    section, name = key.split(".")
    assert getattr(getattr(load_config(None, [f"{key}=9e-1"]), section), name) == 0.9


def test_home_is_home_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(None, ["model.pretrained=~/w.pth", "train.init_from=~/w.pth", "data.root=~/roads"])
    assert (config.model.pretrained, config.train.init_from, config.data.root) == ("/home/me/w.pth", "/home/me/w.pth",
                                                                                   ("/home/me/roads",))


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
        ("loss.uncertainty=true", ["loss.uncertainty", "fixed and never learned", "MODEL_COLLAPSE_FIX.md"]),
        ("loss.log_var_init=0", ["loss.log_var_init", "take it out"]),
        ("loss.learning_rate=1", ["unknown key 'loss.learning_rate'"]),
        ("loss.regresion=1", ["did you mean 'loss.regression'"]),
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


# Old names ---------------------------------------------------------------------------------------------------

OLD_NAMES = [("model", "sky", "cut_top", 0.125), ("augment", "colour", "color", 0.31),
             ("train", "optimiser", "optimizer", "adamw")]


def test_every_old_name_is_tested_and_leads_to_a_key():
    assert {(section, old): new for section, old, new, _ in OLD_NAMES} == RENAMED
    keys = to_dict(Config())
    assert all(new in keys[section] and old not in keys[section] for section, old, new, _ in OLD_NAMES)


@pytest.mark.parametrize(("section", "old", "new", "value"), OLD_NAMES)
def test_an_old_name_in_a_file_works_and_is_one_line(tmp_path, capsys, section, old, new, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{section}:\n  {old}: {value}\n")
    assert to_dict(load_config(path))[section][new] == value
    assert capsys.readouterr() == ("", f"{path}: {section}.{old} is now called {section}.{new}\n")


@pytest.mark.parametrize(("section", "old", "new", "value"), OLD_NAMES)
def test_an_old_name_on_the_command_line_works_and_is_one_line(tmp_path, capsys, section, old, new, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{section}:\n  {new}: {to_dict(Config())[section][new]}\n")
    assert to_dict(load_config(path, [f"{section}.{old}={value}"]))[section][new] == value
    assert capsys.readouterr() == ("", f"command line: {section}.{old} is now called {section}.{new}\n")


@pytest.mark.parametrize(("section", "old", "new", "value"), OLD_NAMES)
def test_an_old_name_in_the_values_of_a_checkpoint_works_silently(capsys, section, old, new, value):
    assert to_dict(config_from_dict({section: {old: value}}))[section][new] == value
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("section", "old", "new", "value"), OLD_NAMES)
def test_both_names_at_once_are_an_error(tmp_path, section, old, new, value):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{section}:\n  {old}: {value}\n  {new}: {value}\n")
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {section}\.{old} is the old name of {section}\.{new}"):
        load_config(path)


def test_an_old_value_is_checked_as_the_new_one_is(capsys):
    with pytest.raises(ConfigError, match=r"train\.optimizer is 'sgd'; expected one of muon, adamw"):
        load_config(None, ["train.optimiser=sgd"])


# Text that YAML reads as something else ----------------------------------------------------------------------


@pytest.mark.parametrize(("written", "root"), [
    ("0601", ("0601",)), ("[0601]", ("0601",)), ("[0313, 0601]", ("0313", "0601")), ("[1e3, yes, 2020-01-01]",
                                                                                   ("1e3", "yes", "2020-01-01")),
    ("my drive #2", ("my drive #2",)), ("a: b", ("a: b",)), ("@eaDir", ("@eaDir",)), ("*x", ("*x",)),
    ("'quoted #1'", ("quoted #1",)), ("['a, b', c]", ("a, b", "c")), ("12:30:05", ("12:30:05",))])
def test_names_on_the_command_line_stay_as_they_are_written(written, root):
    assert load_config(None, [f"data.root={written}"]).data.root == root


@pytest.mark.parametrize(("written", "root"), [
    ("0601", ("0601",)), ("[0313, 0601]", ("0313", "0601")), ("[no]", ("no",)), ("1.50", ("1.50",))])
def test_names_in_a_file_stay_as_they_are_written(tmp_path, written, root):
    (tmp_path / "c.yaml").write_text(f"data:\n  root: {written}\n  cache: no\n")
    data = load_config(tmp_path / "c.yaml").data
    assert data.root == root and data.cache is False


def test_names_that_are_not_utf8_are_taken():
    name = b"\xb3\xb5".decode("utf-8", "surrogateescape")
    assert load_config(None, [f"data.root={name}"]).data.root == (name,)
