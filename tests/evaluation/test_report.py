"""The report: its figures and texts, what it escapes, and in a browser that it fits the window and loads nothing."""

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
from evaluation import evaluator
from evaluation.collapse_detector import COLLAPSING, CollapseStats, Diagnosis
from evaluation.report import POLICY, threshold_choice, write_report
from formats.metric import ThresholdCurve
from formats.registry import list_samples
from geometry.decode import DecodeSettings
from geometry.input_grid import InputGrid
from model import LanePrediction
from runtime import checkpoint

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


@pytest.fixture
def evaluation(rendered):
    """Two scenes whose predictions are their labels."""
    gt = evaluator.ground_truth(LaneDataset(list_samples(rendered, "tusimple")[24:26], InputGrid(160, 96), 6))
    prediction = LanePrediction(gt.target.points, torch.where(gt.target.exists, 9.0, -9.0))
    result = evaluator.score(prediction, gt, DecodeSettings(0.5, 0.007), CollapseStats(), Diagnosis("learning"))
    return result._replace(scores={"accuracy": 1.0, "f1": 0.987, "error_px": 1.25, "diversity": math.nan})


SETTINGS = {"checkpoint": {"file": "best_model.pth"}, "data": {"root": ["data/synthetic"]}}


def renamed(evaluation, name):
    gt = evaluation.gt
    return evaluation._replace(gt=gt._replace(samples=[sample._replace(name=name) for sample in gt.samples]))


def report(folder, evaluation, settings=SETTINGS):
    return write_report(folder, evaluation, settings).read_text(encoding="utf-8")


def test_the_page_has_the_scores_the_diagnosis_and_the_configuration(page):
    text = html.unescape(page.read_text(encoding="utf-8"))
    scores = json.loads((page.parents[2] / "scores.json").read_text())
    assert scores["verdict"] in text
    for name in ("accuracy", "f1", "existence_accuracy"):
        assert f"{100 * scores[name]:.2f} %" in text
    assert f"{scores['error_px']:.2f} px" in text
    assert '<th>threshold</th><td class="text">0.3</td>' in text
    for title in ("Error by distance", "Error by lane", "Reliability", "Scores by threshold", "Worst", "Median",
                  "Best"):
        assert title in text


def test_every_chart_is_well_formed(page):
    charts = re.findall(r"<svg.*?</svg>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(charts) == 7
    for chart in charts:
        assert "nan" not in chart and "inf" not in chart
        assert len(ET.fromstring(chart)) > 0


def test_the_page_refers_to_nothing_outside(page):
    text = page.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|<link|<script|<iframe", text)
    assert set(re.findall(r'src="(.{22})', text)) == {"data:image/jpeg;base64"}


def test_every_color_of_a_chart_is_one_of_the_style_sheet(page):
    text = page.read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    classes = set(re.findall(r'<(?:path|rect|circle|text) class="(\w+)', text))
    assert {"ink", "soft", "grid", "blue", "orange"} <= classes
    assert all(f"svg .{name} {{ color:" in style for name in classes)


def test_what_comes_from_outside_is_shown_as_text(tmp_path, evaluation):
    hostile = renamed(evaluation, HOSTILE)._replace(
        diagnosis=Diagnosis(COLLAPSING, HOSTILE), categories={HOSTILE: {HOSTILE: 1}})
    text = report(tmp_path, hostile, {"checkpoint": {"file": HOSTILE}, "data": {"root": [HOSTILE]},
                                      HOSTILE: {HOSTILE: HOSTILE}})
    assert HOSTILE not in text and "<script" not in text
    expected = 4 + 2 * 2 + 2 + 5
    assert html.unescape(text).count(HOSTILE) == expected, "title, opening, diagnosis; images; category; configuration"


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path, evaluation):
    """A file name on Linux is bytes; Python hands over those of no alphabet as lone surrogates."""
    assert "caf\\udce9.jpg" in report(tmp_path, renamed(evaluation, "caf\udce9.jpg"))


def test_a_perfect_prediction_scores_100_percent(tmp_path, evaluation):
    text = report(tmp_path, evaluation)
    assert "F1 is 100.0 % at a threshold of 0.5, the one in use" in text and "nothing to gain" in text
    assert "inference.threshold=" not in text
    assert re.findall(r"points F1 ([\d.]+) %, error ([\d.]+) px", text) == [("100.0", "0.0")] * 2
    assert "\u2013</b>diversity" in text, "NaN is a dash"


def test_a_better_threshold_is_suggested(tmp_path, evaluation):
    """Every lane at 0.7 but one false lane an image at 0.61: the threshold of 0.5 takes it in."""
    target = evaluation.gt.target
    points, logits = target.points.clone(), torch.where(target.exists, math.log(7 / 3), -9.0)
    for i in range(2):
        slot = int((~target.exists[i]).nonzero()[0])
        points[i, slot] = torch.stack((torch.full((6,), 0.02 + 0.5 * (slot > 2)), torch.linspace(0.3, 0.6, 6)), 1)
        logits[i, slot] = math.log(61 / 39)
    text = report(tmp_path, evaluation._replace(prediction=LanePrediction(points, logits)))
    assert "F1 is highest, 100.0 %, at a threshold of 0.62; at 0.5, the one in use, it is" in text
    assert "<code>inference.threshold=0.62</code>" in text


THRESHOLDS = np.array([0.2, 0.4, 0.5, 0.6])


def test_the_score_shown_is_the_one_that_the_threshold_is_chosen_by():
    """TuSimple's F1 is named alone only where it is the highest that there is."""
    f1, accuracy = np.array([0.9, 0.7, 0.6, 0.5]), np.array([0.3, 0.5, 0.55, 0.6])
    curve = ThresholdCurve(THRESHOLDS, {"F1": f1, "accuracy": accuracy}, np.minimum(f1, accuracy))
    choice = threshold_choice(curve, 0.2)
    assert choice.objective == "The lower of F1 and accuracy"
    assert (choice.current, choice.current_score, choice.best, choice.best_score) == ("0.2", "30.0 %", "0.50", "55.0 %")
    assert [(mark.x, mark.y) for mark in choice.marks] == [(0.2, 0.3), (0.5, 0.55)]
    f1, accuracy = np.array([0.3, 0.5, 0.55, 0.5]), np.array([0.9, 0.7, 0.6, 0.4])
    curve = ThresholdCurve(THRESHOLDS, {"F1": f1, "accuracy": accuracy}, np.minimum(f1, accuracy))
    assert threshold_choice(curve, 0.2)[:5] == ("F1", "0.2", "30.0 %", "0.50", "55.0 %")


def test_culanes_threshold_is_that_of_f1_at_50():
    f1 = np.array([0.45, 0.5, 0.55, 0.3])
    curve = ThresholdCurve(THRESHOLDS, {"F1@50": f1, "F1@75": f1 / 2}, f1)
    assert threshold_choice(curve, 0.2)[:5] == ("F1@50", "0.2", "45.0 %", "0.50", "55.0 %")


def test_a_gain_by_chance_suggests_no_other_threshold():
    f1 = np.array([0.5, 0.5, 0.5, 0.5015])
    choice = threshold_choice(ThresholdCurve(THRESHOLDS, {"F1": f1}, f1), 0.2)
    assert choice.best is None and [mark.x for mark in choice.marks] == [0.2]


def test_a_prediction_file_has_no_confidence_to_report(tmp_path):
    with pytest.raises(ValueError, match="--report needs the confidence"):
        evaluate_fixed.main(["--score", "x.json", "--report", str(tmp_path)])


# In a real browser -------------------------------------------------------------------------------------------


def needs_browser(test):
    return pytest.mark.slow(pytest.mark.process(pytest.mark.skipif(BROWSER is None, reason="no Chromium here")(test)))


MEASURE = """<script>addEventListener("load", () => {
  const loaded = performance.getEntriesByType("resource").map(entry => entry.name);
  const resources = loaded.filter(name => !name.startsWith("data:"));
  const bad = [...document.images].filter(image => !image.naturalWidth).length;
  const beyond = [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
  parent.postMessage(JSON.stringify({inner: innerWidth, scroll: document.documentElement.scrollWidth, resources,
    broken: bad, images: document.images.length, beyond: beyond.length}), "*");
});</script>"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_window_and_loads_nothing(page, tmp_path, width):
    """Chromium opens the page with a script that measures it, and without the policy that would block requests."""
    text = page.read_text(encoding="utf-8")
    measured = tmp_path / "measured.html"
    assert text.count(POLICY) == text.count("</body>") == 1
    measured.write_text(text.replace(POLICY, "").replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    measures = measure(tmp_path, width, measured)
    assert measures["inner"] == width and measures["scroll"] <= width and measures["beyond"] == 0
    assert measures["images"] > 0 and measures["broken"] == 0 and measures["resources"] == []


@needs_browser
def test_the_measurement_detects_what_is_too_wide_and_what_is_loaded(tmp_path):
    """The test above can fail: a page that is too wide and asks for a picture from elsewhere."""
    wide = tmp_path / "wide.html"
    wide.write_text("<!doctype html><body><main><div style='width:900px'>x</div><img src='http://127.0.0.1:9/x.png'>"
                    f"</main>{MEASURE}</body>")
    measures = measure(tmp_path, 390, wide)
    assert measures["scroll"] > 390 and measures["beyond"] == 1 and measures["broken"] == 1
    assert measures["resources"] == ["http://127.0.0.1:9/x.png"]


def measure(folder: Path, width: int, page: Path) -> dict:
    """What MEASURE reports of a page that headless Chromium shows in a frame of a width.

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
