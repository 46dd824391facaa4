"""What the tests of the converter share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import detection_weights

OWN = Path(__file__).parents[1] / "golden" / "detection"  # where a test needs a certain detector, of released prompt


@pytest.fixture(autouse=True)
def one_thread():
    """Threads only slow PyTorch down on models this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def db() -> dict[str, np.ndarray]:
    """The state dict of a small TCM-DB."""
    return detection_weights(OWN / "tcm_db" / "manifest.json")


def torch_tensors(state: dict[str, np.ndarray] | None = None) -> dict[str, torch.Tensor]:
    """A state dict as PyTorch tensors; default: a linear layer's."""
    state = state or {"a.weight": np.float32([[1, 2], [3, 4]]), "a.bias": np.float32([5, 6])}
    return {key: torch.tensor(x) for key, x in state.items()}
