"""Random input: whatever a label, a setting or a checkpoint holds, it is used or refused in one line of ours.

LANE_FUZZ_EXAMPLES=20000 python -m pytest tests/test_fuzz.py tries that many inputs a test, others each time.
"""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import culane, curvelanes, llamas, tusimple
from paths import ROOT

from config import Config, ConfigError, config_from_dict, load_config, to_dict
from formats import registry, splits
from formats.base import DataError, Sample
from formats.parsing import CONTROL
from formats.sample_index import SampleIndex
from preprocessing.images import image_size
from preprocessing.targets import lanes_in_slots
from runtime import checkpoint
from runtime.checkpoint import CheckpointError

EXAMPLES = int(os.environ.get("LANE_FUZZ_EXAMPLES", "0"))
SHIPPED = ROOT / "config.yaml"

fuzz = settings(max_examples=EXAMPLES or 50, derandomize=not EXAMPLES, deadline=None, database=None,
                suppress_health_check=list(HealthCheck))
number = st.one_of(st.integers(), st.floats(), st.integers(-2, 1300), st.sampled_from(
    [10**400, -10**30, 2**63, 1e308, -0.0, 1e-320, float("nan"), float("inf")]))
text = st.one_of(st.text(max_size=20), st.sampled_from(
    ["", "\ufeff", "\u00a0", "\u2028", "\ud800", "a\nb", "\0", "~\0", "²", "../x.jpg", "/etc/passwd", "C:\\x",
     "x" * 2000, "9" * 5000, "1e400", "nan", "-inf", "1_0", "clips/1/20.jpg", "l0", "r1"]))


def nested(leaves, keys):
    """Lists and dicts of the leaves, with some of our own keys among those of the dicts."""
    key = st.one_of(st.sampled_from(keys), text)
    return st.recursive(leaves, lambda inner: st.one_of(
        st.lists(inner, max_size=8), st.dictionaries(key, inner, max_size=6)), max_leaves=20)


def mutated(original: bytes):
    """The bytes with a few stretches replaced, removed or repeated."""
    change = st.tuples(st.integers(0, len(original)), st.integers(0, 12), st.binary(max_size=12), st.integers(1, 3))

    def apply(changes):
        data = original
        for at, removed, put, times in changes:
            data = data[:at] + put * times + data[at + removed:]
        return data

    return st.lists(change, min_size=1, max_size=4).map(apply)


def outcome(call, errors=(DataError, ConfigError, CheckpointError)):
    """What a call returns, or None where it raises an error of ours in one short line; others come through."""
    try:
        return call()
    except errors as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 2000, str(error)[:200]


# Labels ------------------------------------------------------------------------------------------------------

LABEL_KEYS = ["raw_file", "lanes", "h_samples", "Lines", "x", "y", "markers", "lane_id", "pixel_start", "pixel_end",
              "world_start", "z"]
MAKERS = {"tusimple": tusimple, "culane": culane, "curvelanes": curvelanes, "llamas": llamas, "folder": culane}
PLACES = {  # of what each reader reads: lists and labels
    "tusimple": ["label_data_0313.json"], "culane": ["list/test.txt", "drive/a.lines.txt"],
    "curvelanes": ["train/train.txt", "train/labels/x.lines.json"], "llamas": ["labels/valid/drive/1_2.json"],
    "folder": ["drive/a.lines.txt"]}
json_value = nested(st.one_of(number, text, st.booleans(), st.none()), LABEL_KEYS)
lanes = st.lists(st.lists(number, max_size=6), max_size=4)
records = st.one_of(
    json_value,
    st.fixed_dictionaries({"raw_file": st.one_of(text, json_value), "lanes": lanes, "h_samples": st.lists(number)}),
    st.fixed_dictionaries({"Lines": st.lists(st.lists(st.fixed_dictionaries({"x": number | text, "y": number})))}),
    st.fixed_dictionaries({"lanes": st.lists(st.fixed_dictionaries({"lane_id": text, "markers": st.lists(
        st.fixed_dictionaries({"pixel_start": st.fixed_dictionaries({"x": number, "y": number}),
                               "pixel_end": st.fixed_dictionaries({"x": number | text, "y": number}),
                               "world_start": st.fixed_dictionaries({"z": number})}), max_size=4)}), max_size=4)}))


def printable(value) -> bytes:
    """JSON of a value whose integers may have more digits than Python prints."""
    try:
        return json.dumps(value).encode()
    except ValueError:
        return b'{"lanes": [[1' + b"0" * 5000 + b"]]}"


numbers_of_text = st.lists(st.lists(number | text, max_size=6), max_size=5).map(
    lambda rows: "\n".join(" ".join(map(str, row)) for row in rows).encode("utf-8", "surrogatepass"))


def contents(original: bytes):
    """Bytes for a file of labels."""
    as_json = st.lists(records, max_size=3).map(lambda values: b"\n".join(map(printable, values)))
    return st.one_of(st.binary(max_size=80), mutated(original), as_json, numbers_of_text)


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, places in PLACES.items() for place in places])
@fuzz
@given(data=st.data())
def test_any_label_is_read_or_refused(tmp_path_factory, name, place, data):
    root = tmp_path_factory.getbasetemp() / f"fuzz-{name}"
    if not root.exists():
        MAKERS[name](root)
    original = (root / place).with_name((root / place).name + ".kept")
    if not original.exists():
        original.write_bytes((root / place).read_bytes())
    (root / place).write_bytes(data.draw(contents(original.read_bytes())))
    try:
        for sample in registry.scan(root, data.draw(st.sampled_from([name, "auto"]))):
            if isinstance(sample, DataError):
                assert "\n" not in str(sample) and len(str(sample)) < 2000, str(sample)[:200]
                continue
            found = outcome(lambda sample=sample: registry.read_label(sample))
            if found is not None:
                assert all(np.isfinite(lane).all() and lane.shape[1:] == (2,) for lane in found.lanes)
                target, num_unassigned, num_too_short = lanes_in_slots(found, (320, 180), 6)
                assert target.points.isfinite().all()
                assert int(target.exists.sum()) + num_unassigned + num_too_short == len(found.lanes)
    except DataError as error:
        assert "\n" not in str(error)
    finally:
        (root / place).write_bytes(original.read_bytes())


@fuzz
@given(rule=text | st.from_regex(r"clip *>= *\d+|0?\.\d+", fullmatch=True), names=st.lists(text.filter(
    lambda name: len(name) < 1000 and not CONTROL.search(name)), min_size=1))
def test_any_split_is_made_or_refused(rule, names):
    samples = SampleIndex(Sample(Path("a.jpg"), Path("a.txt"), f"{name}/20.jpg", ("test.txt",)) for name in names)
    found = outcome(lambda: splits.split(samples, rule))
    assert found is None or len(found[0]) + len(found[1]) in (0, len(samples))


@fuzz
@given(data=st.binary(max_size=60) | mutated(
    b"\xff\xd8\xff\xe0\0\x08JFIF\0\0\xff\xc0\0\x11\x08\0\x10\0\x20" + b"\3" * 20))
def test_any_bytes_have_a_size_or_none(data):
    size_px = image_size(data)
    assert size_px is None or all(isinstance(v, int) and v >= 0 for v in size_px)


# Settings ----------------------------------------------------------------------------------------------------

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


# Checkpoints -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The bytes and the content of a small checkpoint of ours."""
    path = tmp_path_factory.mktemp("real") / "best_model.pth"
    model = {"a.weight": torch.randn(3, 4), "b": torch.arange(5)}
    checkpoint.save_checkpoint(path, Config(), model=model, scores={"f1": 0.5, "epoch": 3, "name": "x"})
    return path.read_bytes(), checkpoint.load_checkpoint(path)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


@fuzz
@given(data=st.data())
def test_a_changed_checkpoint_is_refused_or_has_the_same_content(tmp_path_factory, real, data):
    original, payload = real
    path = tmp_path_factory.getbasetemp() / "fuzz.pth"
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=60), mutated(original))))
    found = outcome(lambda: checkpoint.load_checkpoint(path))
    assert found is None or same(found, payload)


@fuzz
@given(data=st.data())
def test_a_changed_pickle_with_right_checksums_is_refused_or_read(tmp_path_factory, real, data):
    """What somebody made on purpose: the archive is whole, but the pickle in it is any bytes."""
    path = tmp_path_factory.getbasetemp() / "fuzz3.pth"
    path.write_bytes(real[0])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    parts[pickled] = data.draw(mutated(parts[pickled]))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    outcome(lambda: checkpoint.load_model(path, torch.device("cpu")))


tensors = st.builds(lambda shape, kind: torch.ones(shape, dtype=kind), st.lists(st.integers(0, 3), max_size=3),
                    st.sampled_from([torch.float32, torch.int64, torch.bool, torch.complex64, torch.bfloat16]))
plain = nested(st.one_of(number, text, st.booleans(), st.none(), tensors),
               ["format", "version", "config", "model", "progress", "val_loss", "loss", "train", "epochs"])


@fuzz
@given(content=plain | st.dictionaries(st.sampled_from(["config", "version", "model", "progress", "val_loss"]), plain))
def test_any_plain_content_is_refused_or_used(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz2.pth"
    if isinstance(content, dict):
        content = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "config": to_dict(Config())} | content
    try:
        torch.save(content, path)
    except UnicodeEncodeError:  # half a character
        return
    outcome(lambda: checkpoint.load_model(path, torch.device("cpu")))
