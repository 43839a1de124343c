"""LLAMAS: markers become the lines that its benchmark scores."""

import json

import numpy as np
import pytest
from layouts import label_error, llamas, marker

from formats import registry
from formats.culane_metric import Canvas
from formats.llamas import llamas_canvas


def test_markers_become_the_line_that_its_benchmark_scores(tmp_path):
    sample, = registry.list_samples(llamas(tmp_path))
    assert sample.name == "valid/drive/1_2.json" and sample.image.name == "1_2_color_rect.png"
    lane, = registry.read_label(sample).lanes
    assert lane[0].tolist() == [600, 416] and lane[-1].tolist() == [300, 716], "prolonged to the bottom"
    assert np.array_equal(lane[:, 1], np.arange(416, 717)) and np.allclose(lane.sum(1), 1016), "gaps are filled"


def test_gray_images_are_taken_where_there_are_no_color_ones(tmp_path):
    root = llamas(tmp_path)
    gray = root / "grayscale_images" / "valid" / "drive" / "1_2_gray_rect.png"
    gray.parent.mkdir(parents=True)
    (root / "color_images" / "valid" / "drive" / "1_2_color_rect.png").rename(gray)
    sample, = registry.list_samples(root)
    assert sample.image == gray
    gray.unlink()
    assert "1_2.json: its image" in label_error(root)


def test_canvas_is_30_px_in_its_own_size_and_a_share_of_the_width_in_others():
    assert llamas_canvas((1276, 717)) == Canvas((1276, 717), 30)
    assert llamas_canvas((638, 358)) == Canvas((638, 358), 12)


@pytest.mark.parametrize("content", ["{", '{"lanes": 1}', '{"lanes": [{"markers": []}]}',
                                     '{"lanes": [{"lane_id": "l0", "markers": [{}]}]}',
                                     '{"lanes": [{"lane_id": "l0", "markers": [{"pixel_start": {"x": 1, "y": 900}, '
                                     '"pixel_end": {"x": 1, "y": 1}, "world_start": {"z": 1}}]}]}'])
def test_broken_label_is_named(tmp_path, content):
    (llamas(tmp_path) / "labels" / "valid" / "drive" / "1_2.json").write_text(content)
    assert "1_2.json" in label_error(tmp_path)


def test_nothing_is_above_the_first_row_of_the_benchmark(tmp_path):
    path = llamas(tmp_path) / "labels" / "valid" / "drive" / "1_2.json"
    markers = [marker((500, 450), (500, 400), 9), marker((500, 350), (500, 250), 20)]
    path.write_text(json.dumps({"lanes": [{"lane_id": "l0", "markers": markers}]}))
    sample, = registry.list_samples(tmp_path)
    lane, = registry.read_label(sample).lanes
    assert lane[[0, -1]].tolist() == [[500, 300], [500, 450]]
