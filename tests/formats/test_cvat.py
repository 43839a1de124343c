"""CVAT: the form for images, read at the byte of each image; other shapes and the form for videos."""

import pytest
from layouts import LANES, cvat, label_error, write_image

from formats import registry, splits
from formats.base import DataError

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
LINE = '<polyline label="lane" source="manual" occluded="0" points="10.5,170.25;40,60" z_order="0">'


def written(root, images, names=("a.jpg",)):
    for name in names:
        write_image(root / name)
    (root / "annotations.xml").write_text(f"{HEAD}{images}\n</annotations>", encoding="utf-8")
    return root


def labels(root):
    return [registry.read_label(sample) for sample in registry.list_samples(root)]


def test_polylines_are_lanes_and_other_shapes_are_counted(tmp_path):
    samples = registry.list_samples(cvat(tmp_path))
    assert [(sample.name, sample.line) for sample in samples] == [("images/a.jpg", 4), ("images/deep/b.jpg", 5)]
    for label in map(registry.read_label, samples):
        assert [lane.tolist() for lane in label.lanes] == [[list(map(float, p)) for p in lane] for lane in LANES]
        assert label.left_out == ("box",) and label.size_px == (320, 180)


def test_attributes_within_a_line_and_images_without_any(tmp_path):
    inner = f'{LINE}\n<attribute name="color">&lt;white&gt;</attribute>\n</polyline>'
    root = written(tmp_path, f'<meta><x/></meta><image id="0" name="a.jpg" width="320" height="180">{inner}</image>'
                   '<image id="1" name="b.jpg" width="320" height="180"/><image id="2" name="ü車.jpg">'
                   f'<polygon label="lane" points="1,2;3,4;5,6"/>{LINE.replace("lane", "stop_line")}</polyline>'
                   f'{LINE.replace("lane", "crosswalk")}</polyline></image>', ("a.jpg", "b.jpg", "ü車.jpg"))
    first, second, third = labels(root)
    assert first.lanes[0].tolist() == [[10.5, 170.25], [40, 60]] and len(second.lanes) == 0
    assert third.lanes == [] and third.left_out == ("polygon", "stop_line", "crosswalk") and third.size_px is None


def test_a_large_file_is_read_at_the_byte_of_its_image(tmp_path):
    padding = "<!-- {} -->".format("é" * 100_000)
    images = "".join(f'{padding}<image name="{i}.jpg">{LINE.replace("40,", f"{i},")}</polyline></image>'
                     for i in range(5))
    root = written(tmp_path, images, [f"{i}.jpg" for i in range(5)])
    assert [label.lanes[0][1, 0] for label in labels(root)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("images", "expected"), [("", 2), ('<image name="c.jpg"></wrong>', 3)])
def test_the_images_before_a_fault_are_listed(tmp_path, images, expected):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    images = f"<!-- {'x' * 200_000} -->" + "".join(f'<image name="{name}"/>' for name in names[:2]) + images
    root = written(tmp_path, images, names)
    text = (root / "annotations.xml").read_text(encoding="utf-8")
    (root / "annotations.xml").write_text(text.removesuffix("\n</annotations>"), encoding="utf-8")
    listed = list(registry.data_set("cvat").list_labelled(root))
    assert [sample.name for sample in listed[:-1]] == names[:expected]
    assert isinstance(listed[-1], DataError) and "broken XML" in str(listed[-1])


def test_a_file_that_was_cut_off_after_it_was_listed_is_refused(tmp_path):
    root = written(tmp_path, f'<image name="a.jpg">{LINE}</polyline></image>', ["a.jpg"])
    (sample,) = registry.list_samples(root)
    text = sample.label.read_text(encoding="utf-8")
    sample.label.write_text(text[:text.index("</image>")], encoding="utf-8")
    with pytest.raises(DataError, match=r"annotations\.xml:4: broken XML"):
        registry.read_label(sample)


@pytest.mark.parametrize("place", ["a.jpg", "images/a.jpg", "images/default/a.jpg", "images/a.PNG",
                                   "train/images/a.jpg"])
def test_the_image_is_found(tmp_path, place):
    name = "a" if place.endswith("PNG") else "train/images/a.jpg" if place.startswith("train") else "a.jpg"
    root = written(tmp_path, f'<image name="{name}">{LINE}</polyline></image>', (place,))
    assert [sample.name for sample in registry.list_samples(root)] == [place]


def test_subsets_are_lists(tmp_path):
    images = "".join(f'<image name="{i}.jpg" subset="{part}">{LINE}</polyline></image>'
                     for i, part in enumerate(("train", "train", "val", "test")))
    samples = registry.list_samples(written(tmp_path, images, [f"{i}.jpg" for i in range(4)]))
    train, val = splits.split(samples, "auto")
    assert (list(train.names()), list(val.names())) == (["0.jpg", "1.jpg"], ["2.jpg"])


@pytest.mark.parametrize(("name", "place"), [("{}.jpg", "{}"), ("0.jpg", "{}"), ("drive/{}.jpg", "{}"), ("0.jpg", "")])
def test_images_of_an_exported_project_lie_in_folders_of_its_subsets(tmp_path, name, place):
    parts = ("Train", "Validation", "Test") if place else ("Train",)
    names = [name.format(part) for part in parts]
    images = "".join(f'<image name="{name}" subset="{part}">{LINE}</polyline></image>'
                     for name, part in zip(names, parts, strict=True))
    paths = [f"images/{place.format(part)}/{name}" for name, part in zip(names, parts, strict=True)]
    samples = registry.list_samples(written(tmp_path, images, paths))
    assert list(samples.names()) == [path.replace("//", "/") for path in paths]
    assert [sample.lists for sample in samples] == [(part,) for part in parts]


def test_a_video_is_refused_with_what_to_do(tmp_path):
    root = written(tmp_path, '<track id="0" label="lane"><polyline frame="0" points="1,2;3,4"/></track>')
    assert "1 tracks of a video, which name no image, cannot be read; export the task as 'CVAT for images 1.1'" in (
        label_error(root))
    assert "no image in it" in label_error(written(tmp_path, ""))


@pytest.mark.parametrize(("images", "message"), [
    ("<image name='a.jpg'>", "broken XML: mismatched tag"), ("<image/>", "annotations.xml:4: 'None' is no name"),
    ("<image name='a.jpg'><polyline points='1,2;x,3'/></image>", "expected points 'x,y;x,y'"),
    ("<image name='a.jpg'><polyline points='1;2'/></image>", "a list of points"),
    ("<image name='a.jpg'><polyline points='1,nan'/></image>", "no pixel position"),
    ("<image name='gone.jpg'/>", "annotations.xml:4: the image 'gone.jpg' is missing"),
    ("<image name='a.jpg'>&huge;</image>", "broken XML: undefined entity"),
    ("<image name='a.jpg'>" + "<polyline points='1,2;3,4'/>" * 65 + "</image>", "at most 64 lanes")])
def test_a_broken_file_is_named(tmp_path, images, message):
    assert message in label_error(written(tmp_path, images))


def test_document_types_are_refused(tmp_path):
    root = written(tmp_path, "")
    path = root / "annotations.xml"
    path.write_text(path.read_text().replace("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'))
    assert "annotations.xml: a document type, which a file of CVAT does not have" in label_error(root)


def test_other_xml_is_not_claimed(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><object/></annotation>")
    assert registry.detect(tmp_path) is None
