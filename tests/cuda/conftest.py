"""What needs a GPU: python -m pytest tests/cuda runs all of it, and says so where there is none."""

from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent
REASON = "no GPU that CUDA can use: torch.cuda.is_available() is false"


def pytest_collection_modifyitems(items):
    """Skip this folder's tests where there is no GPU."""
    if not torch.cuda.is_available():
        for item in items:
            if item.path.is_relative_to(FOLDER):
                item.add_marker(pytest.mark.skip(reason=REASON))
