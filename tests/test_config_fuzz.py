"""Random settings: whatever a file or an override contains, it is taken or refused in one line of ours."""

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from random_input import fuzz, mutated, nested, number, outcome, text

from config import Config, config_from_dict, load_config, to_dict

SHIPPED = ROOT / "config.yaml"
SECTIONS = to_dict(Config())
TAGS = ["!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "0001-01-01 00:00:00 +23:59", "2024-13-45", "&a [*a]",
        "0x", "1:60:70", "<<: 3", "? [a]", "=", "0x" + "f" * 9000, "!!binary x", "!!set {a}", "*b", "{a: 1, a: 2}",
        "!!python/object:os.system {}", "[" * 900, "- " * 900, '"\\ud800"', '"\\0"', '"~\\0"', ".nan", "-.inf",
        "1e999", "|", "%"]
yaml_value = st.one_of(text, st.sampled_from(TAGS), number.map(lambda v: hex(v) if isinstance(v, int) else repr(v)))
setting_name = st.sampled_from([f"{s}.{k}" for s, keys in SECTIONS.items() for k in keys])


def check_config(load):
    config = outcome(load)
    if config is not None:
        assert config_from_dict(to_dict(config)) == config
        json.dumps(to_dict(config), allow_nan=False)


@fuzz
@given(content=st.one_of(
    st.binary(max_size=100), mutated(SHIPPED.read_bytes()), st.lists(st.tuples(setting_name, yaml_value)).map(
        lambda pairs: "".join("{}:\n  {}: {}\n".format(*name.split("."), value) for name, value in pairs).encode(
            errors="replace"))))
def test_any_settings_file_is_loaded_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    check_config(lambda: load_config(path))


@fuzz
@given(values=nested(st.one_of(number, text, st.booleans(), st.none()), [*SECTIONS, *SECTIONS["train"], "root"]))
def test_any_structure_of_settings_is_loaded_or_refused(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "fuzz2.yaml"
    try:
        path.write_text(yaml.safe_dump(values))
    except ValueError:  # an integer of more digits than Python prints, or half a character
        return
    check_config(lambda: load_config(path))


@fuzz
@given(overrides=st.lists(st.one_of(text, st.builds("{}={}".format, setting_name | text, yaml_value)), max_size=3))
def test_any_override_is_taken_or_refused(overrides):
    check_config(lambda: load_config(None, overrides))
