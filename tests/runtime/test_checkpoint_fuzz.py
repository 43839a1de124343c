"""Random checkpoints: whatever a file contains, it is loaded or refused in one line of ours."""

import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_input import fuzz, mutated, nested, number, outcome, text

from config import Config, to_dict
from runtime import checkpoint


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
    loaded = outcome(lambda: checkpoint.load_checkpoint(path))
    assert loaded is None or same(loaded, payload)


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
