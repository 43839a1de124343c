"""The benchmark's rows from the host to lanes on the host, on a tiny network and images, without a GPU."""

import pytest
import speed_host
import speed_inference
import speed_networks
import torch
from speed_scale import Scale

from config import load_config

SCALE = Scale(rounds=1, networks=("compact",), batches=(1,), step_batches=(4,), files=3, file_size_px=(160, 96),
              seconds=0.01, repeats=1)


def test_the_way_from_the_host_to_lanes_on_the_host_has_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(speed_host, "MIN_IMAGES", 5)
    monkeypatch.setitem(speed_networks.SIZES, "compact", (64, 64))
    paths = speed_inference.image_files(tmp_path, load_config(None, []), [], SCALE)
    predictor = speed_inference.random_predictor("compact", tmp_path, torch.device("cpu"))
    lines = speed_host.table({"compact": predictor}, paths, 2, SCALE)
    assert len({line.count("|") for line in lines}) == 1
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[1].split(",")[0] for row in rows] == [
        "an image of 160x96", "the same", "40 JPEG files by threads", "40 JPEG files by processes"]
    for row in rows[:2]:
        assert 0 < float(row[2]) <= float(row[3]) and float(row[4]) == pytest.approx(1e3 / float(row[2]), rel=0.02)
    assert all(float(row[4]) > 0 and float(row[5]) > 0 for row in rows[2:])
