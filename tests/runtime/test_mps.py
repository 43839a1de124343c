"""What a training step computes with: only what MPS has, by PyTorch's own table of operators, and no float64."""

from pathlib import Path

import torch
import torchgen
import yaml
from batches import pictures, some_target
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from config import AugmentConfig, Config
from geometry.decode import lane_nms
from geometry.input_grid import RowWarp
from losses_fixed import LaneLoss
from model import LaneNet
from preprocessing.augment import sample_params
from training.state import build_state
from training.step import step, step_setup


class Recorded(TorchDispatchMode):
    """Names of all operators that ran, and those with a float64 tensor, which MPS does not have."""

    def __init__(self):
        super().__init__()
        self.names, self.doubles = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func))
        if any(isinstance(v, torch.Tensor) and v.dtype in (torch.float64, torch.complex128)
               for v in tree_flatten((args, kwargs, result))[0]):
            self.doubles.add(str(func))
        return result


def on_mps(names):
    """Those of the operators that PyTorch's own table has for MPS: with a kernel of its own, or made of others."""
    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    table = {entry["func"].partition("(")[0]: entry for entry in yaml.load(path.read_text(), yaml.CSafeLoader)}

    def has(name):
        entry = table.get(table[name].get("structured_delegate"), table[name])
        kernels = ", ".join(entry.get("dispatch", ["Composite"]))
        return "MPS" in kernels or ("Composite" in kernels and "lstsq" not in name)  # made of some that MPS lacks

    short = {name: name.removeprefix("aten.").removesuffix(".default") for name in names}
    return {name for name, inner in short.items() if inner in table and has(inner)}


def test_a_training_step_uses_nothing_that_mps_lacks():
    """float64 does not exist on MPS, nor do most of torch.linalg; the fit matrices are made once, on the CPU."""
    torch.manual_seed(0)
    rows = RowWarp(0.25, 3.5)
    model = LaneNet(warp=rows).train()
    cpu = torch.device("cpu")
    state = build_state(model, Config(), 10, cpu, torch.float32)  # with the default optimizer
    setup = step_setup(state, model, LaneLoss(), Config(), cpu, torch.float32)

    def run_step():
        params = sample_params(2, AugmentConfig(), 1.5, torch.Generator().manual_seed(0))
        step(setup, pictures(2), some_target(2), params, 2)
        points, logits = model(pictures(2))
        lane_nms(points.detach(), logits.detach().sigmoid(), 0.5)

    run_step()
    with Recorded() as recorded:
        run_step()
    assert len(recorded.names) > 30 and any("convolution_backward" in name for name in recorded.names)
    assert recorded.doubles == set()
    used = {name for name in recorded.names if not name.startswith("profiler.")}
    assert used - on_mps(used) == set()


def test_the_table_of_operators_tells_what_mps_lacks():
    lacking = {"aten.linalg_eig.default", "aten.linalg_lstsq.default", "aten.no_such_operator"}
    present = {"aten.addmm.default", "aten.add.Tensor", "aten.convolution_backward.default", "aten.linspace.default"}
    assert on_mps(lacking | present) == present


def test_recording_would_notice_a_double():
    with Recorded() as recorded:
        torch.zeros(2).double().sum()
    assert recorded.doubles
