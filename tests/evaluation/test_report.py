"""The report says what was scored, escapes what it is given, and in a browser fits the window and loads nothing."""

import dataclasses
import html
import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate_fixed
from config import load_config
from dataset import LaneDataset
from evaluation.collapse_detector import COLLAPSING, Diagnosis
from evaluation.evaluator import ground_truth
from evaluation.report import POLICY, write_report
from formats.registry import list_samples
from geometry.input_grid import InputGrid
from runtime import checkpoint
from visualization.svg_charts import Bar, bars, lines

SMALL = ["model.width=96", "model.height=64", "train.device=cpu", "train.precision=fp32", "data.workers=0"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>alert('\u00fc')</script>&\".jpg"


@pytest.fixture(scope="module")
def page(rendered, tmp_path_factory):
    """report.html as evaluate_fixed.py writes it for a network that learned nothing, whose name no line can hold."""
    name = f"{'x' * 150}.pth"
    folder = tmp_path_factory.mktemp("report")
    torch.manual_seed(0)
    config = load_config(None, SMALL)
    checkpoint.save_checkpoint(folder / name, config, model=checkpoint.build_model(config).state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate_fixed.main(["--checkpoint", name, "--report", "a/report", "--json", "scores.json",
                             f"data.root={rendered}", f"data.cache_dir={folder / 'cache'}", "inference.threshold=0.3",
                             *SMALL[2:]])
    return folder / "a" / "report" / "report.html"


def written(folder, rendered, **changes):
    """The text of a report on two scenes whose predictions are their labels."""
    found = list_samples(rendered, "tusimple")[24:26]
    truth = ground_truth(LaneDataset(found, InputGrid(160, 96), 6))
    given = {"samples": found, "labels": truth.labels, "sizes_px": truth.sizes_px, "target": truth.target,
             "points": truth.target.points, "logits": torch.where(truth.target.exists, 9.0, -9.0),
             "scores": {"accuracy": 1.0, "f1": 0.987, "error_px": 1.25, "diversity": math.nan}, "metric": "tusimple",
             "judged": Diagnosis("learning"),
             "settings": {"checkpoint": {"file": "best_model.pth"}, "data": {"root": ["data/synthetic"]},
                          "inference": dataclasses.asdict(load_config(None, ["inference.threshold=0.5"]).inference)}}
    return write_report(folder, **(given | changes)).read_text(encoding="utf-8")


def test_the_page_has_the_scores_and_the_verdict(page):
    text = html.unescape(page.read_text(encoding="utf-8"))
    scores = json.loads((page.parents[2] / "scores.json").read_text())
    assert scores["verdict"] in text
    for name in ("accuracy", "f1", "existence_accuracy"):
        assert f"{100 * scores[name]:.2f} %" in text
    assert f"{scores['error_px']:.2f} px" in text
    assert "<th>threshold</th><td class=text>0.3</td>" in text, "the configuration"
    for title in ("Error by distance", "Error by lane", "Reliability", "By threshold", "Worst", "Median", "Best"):
        assert title in text


def test_every_diagram_is_well_formed(page):
    diagrams = re.findall(r"<svg.*?</svg>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(diagrams) == 7
    for diagram in diagrams:
        assert "nan" not in diagram and "inf" not in diagram
        assert len(ET.fromstring(diagram)) > 0


def test_the_page_refers_to_nothing_outside(page):
    text = page.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|<link|<script|<iframe", text)
    assert set(re.findall(r'src="(.{22})', text)) == {"data:image/jpeg;base64"}


def test_what_comes_from_outside_is_shown_as_text(tmp_path, rendered):
    found = [sample._replace(name=HOSTILE) for sample in list_samples(rendered, "tusimple")[24:26]]
    text = written(tmp_path, rendered, samples=found, judged=Diagnosis(COLLAPSING, HOSTILE), settings={
        "checkpoint": {"file": HOSTILE}, "data": {"root": [HOSTILE]}, HOSTILE: {HOSTILE: HOSTILE},
        "inference": {"threshold": 0.5, "end_tolerance": 0.007}})
    assert "<script" not in text
    assert text.count(html.escape(HOSTILE)) == 4 + 2 * 2 + 5, "title, opening and verdict; images; configuration"


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path, rendered):
    """A file name on Linux is bytes; Python hands over those of no alphabet as lone surrogates."""
    found = [sample._replace(name="caf\udce9.jpg") for sample in list_samples(rendered, "tusimple")[24:26]]
    assert "caf\\udce9.jpg" in written(tmp_path, rendered, samples=found)


def test_a_perfect_prediction_reads_as_one(tmp_path, rendered):
    text = written(tmp_path, rendered)
    assert "F1 is highest, 100.0 %, at a threshold of 0.50" in text and "nothing to gain" in text
    assert re.findall(r"points F1 ([\d.]+) %, error ([\d.]+) px", text) == [("100.0", "0.0")] * 2
    assert "\u2013</b>diversity" in text, "what is not a number is a dash"


def test_a_better_threshold_is_suggested(tmp_path, rendered):
    """Every lane at 0.7 but one false lane an image at 0.61: the threshold of 0.5 takes it in."""
    found = list_samples(rendered, "tusimple")[24:26]
    truth = ground_truth(LaneDataset(found, InputGrid(160, 96), 6)).target
    points, logits = truth.points.clone(), torch.where(truth.exists, math.log(7 / 3), -9.0)
    for i in range(2):
        slot = int((~truth.exists[i]).nonzero()[0])
        points[i, slot] = torch.stack((torch.full((6,), 0.02 + 0.5 * (slot > 2)), torch.linspace(0.3, 0.6, 6)), 1)
        logits[i, slot] = math.log(61 / 39)
    text = written(tmp_path, rendered, points=points, logits=logits)
    assert "<code>inference.threshold=0.62</code>" in text


def test_a_prediction_file_has_no_confidence_to_report(tmp_path):
    with pytest.raises(ValueError, match="--report needs the confidence"):
        evaluate_fixed.main(["--score", "x.json", "--report", str(tmp_path)])


def test_bars_are_as_long_as_their_values():
    svg = ET.fromstring(re.search(r"<svg.*</svg>", bars("t", [Bar("a", [10.0], ["x"]), Bar("<b>", [5.0], ["y"]),
                                                             Bar("c", [math.nan], ["z"])]))[0])
    lengths = [float(bar.get("width")) for bar in svg.iter("rect")]
    assert lengths[0] == 2 * lengths[1] > 0 and lengths[2] == 0
    assert [text.text for text in svg.iter("text")] == ["a", "x", "<b>", "y", "c", "z"]


def test_a_line_has_a_gap_where_a_value_is_missing():
    chart = lines("t", [("", [0, 0.5, math.nan, 1], np.array([0, 0.5, math.nan, 1]))], "x", "y", dots=True)
    path = re.search(r'class="line a" d="(.*?)"', chart)[1]
    assert path.count("M") == 2 and path.count("L") == 1 and chart.count("<circle") == 3


# In a real browser -------------------------------------------------------------------------------------------

MEASURE = """<script>addEventListener("load", () => {
  const loaded = performance.getEntriesByType("resource").map(sample => sample.name);
  const seen = loaded.filter(name => !name.startsWith("data:"));
  const bad = [...document.images].filter(image => !image.naturalWidth).length;
  const beyond = [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
  parent.postMessage(JSON.stringify({inner: innerWidth, scroll: document.documentElement.scrollWidth, resources: seen,
    broken: bad, images: document.images.length, beyond: beyond.length}), "*");
});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_window_and_loads_nothing(page, tmp_path, width):
    """Chromium opens the page with a script that measures it, and without the policy that would hide what is asked for.

    What the browser itself asks for is none of the page's doing.
    """
    text = page.read_text(encoding="utf-8")
    measured = tmp_path / "measured.html"
    assert text.count(POLICY) == text.count("</body>") == 1
    measured.write_text(text.replace(POLICY, "").replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    found = measure(tmp_path, width, measured)
    assert found["inner"] == width and found["scroll"] <= width and found["beyond"] == 0
    assert found["images"] > 0 and found["broken"] == 0 and found["resources"] == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_measure_sees_what_is_too_wide_and_what_is_loaded(tmp_path):
    """The test above can fail: a page that is too wide and asks for a picture from elsewhere."""
    wide = tmp_path / "wide.html"
    wide.write_text("<!doctype html><body><main><div style='width:900px'>x</div><img src='http://127.0.0.1:9/x.png'>"
                    f"</main>{MEASURE}</body>")
    found = measure(tmp_path, 390, wide)
    assert found["scroll"] > 390 and found["beyond"] == 1 and found["broken"] == 1
    assert found["resources"] == ["http://127.0.0.1:9/x.png"]


def measure(folder: Path, width: int, page: Path) -> dict:
    """What MEASURE finds in a page that headless Chromium shows in a frame of a width.

    In a frame, since Chromium takes no window below 500 px. Its profile is a new one.
    """
    frame = folder / "frame.html"
    frame.write_text("<!doctype html><script>onmessage = event => document.body.dataset.measured = event.data</script>"
                     f"<body><iframe src='{page.as_uri()}' style='border: 0' width={width} height=900></iframe></body>")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--disable-component-update", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
               f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000",
               "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r'data-measured="(.*?)"', shown)[1]))
