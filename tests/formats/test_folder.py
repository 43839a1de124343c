"""A folder of one's own: images anywhere below it, with X.lines.txt beside X.jpg."""

import pytest
from layouts import folder, label_error, write_image

from formats import registry


def test_images_of_any_suffix_in_sub_folders(tmp_path):
    samples = registry.list_samples(folder(tmp_path))
    assert [sample.name for sample in samples] == ["day/one.PNG", "day/two words.jpg"]
    assert len(registry.read_label(samples[0]).lanes) == 2


def test_samples_are_in_the_order_of_their_paths(tmp_path):
    for name in ("b.jpg", "a/x.jpg", "a-/x.jpg", "a.k.jpg", "a.jpg", "a/b/x.jpg", "A.jpg"):
        write_image(tmp_path / name)
        (tmp_path / name).with_suffix(".lines.txt").write_text("")
    labels = [sample.label for sample in registry.list_samples(tmp_path)]
    assert labels == sorted(tmp_path.rglob("*.lines.txt")) and len(labels) == 7


@pytest.mark.parametrize("name", ["one", "two words"])
def test_label_without_an_image_is_named(tmp_path, name):
    root = folder(tmp_path)
    next((root / "day").glob(f"{name}.[Pj]*")).unlink()
    assert f"{name}.lines.txt: no image {name}.jpg, .png, .bmp, .webp or .tif beside it" in label_error(root)
