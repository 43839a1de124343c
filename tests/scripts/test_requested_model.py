"""Settings of the network that are asked for must be the checkpoint's own: in inference, evaluation and export."""

import pytest
import torch
from refusals import refusal

import evaluate_fixed
import export_fixed
import inference_fixed
from runtime.checkpoint import CheckpointError, load_model

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize(("requested", "words"), [
    ({"width": 640}, "model.width=160, now 640;"),
    ({"slots": 8, "cut_top": 0.0}, "model.slots=6, now 8; model.cut_top=0.25, now 0.0;"),
])
def test_another_network_than_the_checkpoints_is_refused(checkpoint, requested, words):
    cpu = torch.device("cpu")
    own = load_model(checkpoint, cpu, {"slots": 6, "width": 160})[1]
    assert (own.model.slots, own.model.width) == (6, 160)
    refusal(lambda: load_model(checkpoint, cpu, requested), CheckpointError, f"this model was trained with {words}")


@pytest.mark.parametrize("main", [inference_fixed.main, evaluate_fixed.main,
                                  lambda words: export_fixed.main([*words, "--format", "torch"])],
                         ids=["inference", "evaluation", "export"])
@pytest.mark.parametrize("by_file", [False, True])
def test_scripts_name_both_values(checkpoint, main, by_file, tmp_path):
    (tmp_path / "own.yaml").write_text("model: {width: 640}")
    words = ["--config", "own.yaml"] if by_file else ["model.width=640"]
    refusal(lambda: main([*words, "--checkpoint", str(checkpoint)]), CheckpointError, "model.width=160, now 640")
