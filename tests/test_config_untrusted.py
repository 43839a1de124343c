"""Settings from strangers: what is deep, double or absurd is refused in one short line."""

import pytest
import yaml
from refusals import refusal

from config import ConfigError, load_config


@pytest.mark.parametrize(("content", "words"), [
    ("train:\n  epochs: 1\n  epochs: 2\n", "'epochs' is written twice"), ("train: {epochs: 1, epochs: 1}", "twice"),
    ("train: 1\ntrain: 2\n", "'train' is written twice"), ("- " * 5000, "not valid YAML"),
    ("a: [" * 3000, "not valid YAML"), ("train: {epochs: 0x" + "f" * 9000 + "}", "too large a number"),
    ("train: {epochs: !!int ''}", "not valid YAML"), ("train: !!timestamp x", "not valid YAML"),
    ("train: {init_from: \"a\\0b\"}", "control characters"), ("x" * 1_000_001, "no settings"),
    ("a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join(f'*{a}' for _ in range(9))}]\n" for a, b in
                                zip("abcdefgh", "bcdefghi", strict=True)) + "train: *i\n", "unknown section 'a'"),
    ("train: &a {epochs: [*a, *a]}", "train.epochs is"), ("data: {root: &a [*a]}", "expected str"),
], ids=range(13))
def test_deep_double_and_absurd_settings_are_refused(tmp_path, content, words):
    (tmp_path / "c.yaml").write_text(content)
    refusal(lambda: load_config(tmp_path / "c.yaml"), ConfigError, "c.yaml", words)


def test_an_empty_section_may_be_overridden(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"train": None}))
    assert load_config(tmp_path / "c.yaml", ["train.epochs=3"]).train.epochs == 3
