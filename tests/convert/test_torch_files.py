"""PyTorch files with more than tensors in them: leftovers of a training, and code that must not run."""

import argparse
import collections
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from tcm_jax.convert import checkpoints
from tcm_jax.convert.architecture import identify
from tcm_jax.convert.engine import ConversionError
from tests.conftest import read_json
from tests.convert.conftest import torch_tensors
from tests.golden_models import clip4str_config, golden_state


class Method:
    """Pickles as a method of an object, as PyTorch before 2.4 did with OneCycleLR's function."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def lightning(state, hyper_parameters):
    """What PyTorch Lightning 1.6 writes, with the leftovers of a training."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=1e-3)
    parameter.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=10)
    score = torch.tensor(0.9)
    callback = {
        "best_model_score": score,
        "best_k_models": {"/a.ckpt": score},
        "current_score": np.float64(0.9),
    }
    return {
        "epoch": 10,
        "global_step": 1000,
        "pytorch-lightning_version": "1.6.5",
        "state_dict": collections.OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_accuracy'}": callback},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict() | {"anneal_func": Method(scheduler, "_annealing_cos")}],
        "NativeMixedPrecisionPlugin": {"scale": 65536.0, "growth_tracker": 7},
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters,
    }


def test_a_lightning_checkpoint(golden, tmp_path):
    folder = golden / "clip4str"
    config = read_json(folder / "config.json")
    path = tmp_path / "last.ckpt"
    torch.save(lightning(torch_tensors(golden_state(folder)), config["model"]), path)
    checkpoint = checkpoints.read(path)
    assert checkpoint.hyper_parameters == config["model"]
    architecture = identify(checkpoint)
    assert architecture.config == clip4str_config(config, folder)
    assert not any("as in the released models" in note for note in architecture.notes)
    assert any("coef_lr" in note for note in architecture.notes)


class DictConfig:
    """As OmegaConf's, which pickles its content and a parent."""

    def __init__(self, content):
        self._metadata, self._parent, self._content = None, None, content


class AttributeDict(dict):
    """As Lightning's."""


@pytest.mark.parametrize(
    ("cls", "module", "make"),
    [
        (argparse.Namespace, "argparse", lambda values: argparse.Namespace(**values)),
        (DictConfig, "omegaconf.dictconfig", DictConfig),
        (AttributeDict, "pytorch_lightning.utilities.parsing", AttributeDict),
    ],
)
def test_hyper_parameters_in_objects_are_unpacked(tmp_path, monkeypatch, cls, module, make):
    values = {"dec_depth": 2, "img_size": [32, 128]}
    path = tmp_path / "last.ckpt"
    with monkeypatch.context() as patch:  # reading needs none of these packages
        names = module.split(".")
        for i in range(len(names)):
            fake = types.ModuleType(".".join(names[: i + 1]))
            setattr(fake, cls.__name__, cls)
            patch.setitem(sys.modules, fake.__name__, fake)
        patch.setattr(cls, "__module__", module)
        torch.save(lightning(torch_tensors(), {"nested": make(values)}), path)
        torch.save(lightning(torch_tensors(), make(values)), tmp_path / "plain.ckpt")
    assert checkpoints.read(path).hyper_parameters == {"nested": values}
    assert checkpoints.read(tmp_path / "plain.ckpt").hyper_parameters == values


def test_a_checkpoint_that_contains_itself(tmp_path):
    content = {"hyper_parameters": {}}
    content["state_dict"] = content
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ConversionError, match="is a dict, expected a tensor"):
        checkpoints.read(tmp_path / "a.pt")
    content = {"state_dict": torch_tensors(), "hyper_parameters": {}}
    content["hyper_parameters"]["again"] = content["hyper_parameters"]
    torch.save(content, tmp_path / "b.pt")
    with pytest.raises(ConversionError, match="hyper-parameters contain themselves"):
        checkpoints.read(tmp_path / "b.pt")


class Call:
    """A pickle that calls `function` when it is loaded without care."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("where", ["beside", "hyper_parameters", "state_dict"])
@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "subprocess.call", "pathlib.Path.touch"])
def test_code_in_a_pickle_does_not_run(tmp_path, where, name):
    marker = tmp_path / "code_ran"
    call = {
        "os.system": Call(os.system, f"touch {marker}"),
        "builtins.eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "subprocess.call": Call(subprocess.call, ["touch", str(marker)]),
        "pathlib.Path.touch": Call(marker.touch),
    }[name]
    content = {"state_dict": torch_tensors(), "hyper_parameters": {}}
    if where == "beside":
        content["callbacks"] = call
    else:
        content[where]["a"] = call
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    if name == "pathlib.Path.touch":
        # getattr(path, "touch") has a stand-in, for the schedulers' sake; its result can't be called.
        expected = "is refused: Trying to call reduce for unrecognized function"
    else:
        # Protocol 2 writes Python 2's names: subprocess.call is commands.call there.
        expected = "asks for (posix.system|eval|commands.call); expected tensors"
    with pytest.raises(ConversionError, match=expected) as error:
        checkpoints.read(path)
    assert str(path) in str(error.value)
    assert not marker.exists()
    assert pickle.loads(pickle.dumps(call)) is not call
    assert marker.exists()


class Stateful(torch.nn.Module):
    """TorchScript calls __setstate__ while it loads."""

    def __init__(self):
        super().__init__()
        self.weight = torch.ones(2)

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight = state[0]
        self.training = state[1]


def test_an_archive_that_runs_methods_while_loading_is_refused(tmp_path):
    path = tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(Stateful()), path)
    with pytest.raises(ConversionError, match="has a __setstate__, which would run while loading"):
        checkpoints.read(path)


def test_a_pickled_module_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ConversionError, match=r"asks for torch.nn.modules.linear.Linear; expected tensors"):
        checkpoints.read(path)
