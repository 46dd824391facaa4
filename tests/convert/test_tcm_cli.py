"""mmcv checkpoints of text detectors through `python -m convert`, from end to end."""

import collections
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tcm_jax import pretrained
from tcm_jax.commands.convert import main
from tcm_jax.convert import checkpoints
from tcm_jax.convert.engine import ConversionError
from tcm_jax.detection.model import detection_config
from tests.conftest import detection_weights
from tests.convert.conftest import torch_tensors
from tests.convert.test_convert_cli import error_of
from tests.convert.test_tcm_conversion import ORIGINS, options
from tests.convert.test_torch_files import Call
from tests.golden_detectors import golden_config

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = """
model = dict(
    type='OCRCLIP',
    class_names=[{tcm.prompt!r}],
    use_context_decoder={tcm.context_decoder},
    tau={tcm.tau},
    bbox_head=dict(postprocessor=dict(type='Postprocessor', text_repr_type='poly')))
data = dict(test=dict(pipeline=[dict(type='MultiScaleFlipAug', img_scale=(640, 320), transforms=[])]))
custom_hooks = [__import__('os').system('touch code_ran')]
"""


def mmcv(state, config="", **meta):
    """What mmcv 1.3 writes: plain values of the run, weights, optimizer."""
    weights = collections.OrderedDict(torch_tensors(state))
    weights._metadata = collections.OrderedDict({"": {"version": 1}})  # mmcv keeps it
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    meta = {
        "env_info": "sys.platform: linux\nPython: 3.7",
        "config": config,
        "seed": None,
        "exp_name": "clip_db_r50_fpnc.py",
        "mmocr_version": "0.4.0+5ebac37",
        "CLASSES": ("text",),
        "epoch": 1200,
        "iter": 75600,
        "time": "Tue Jun 14 10:00:00 2022",
        "hook_msgs": {"best_score": np.float64(0.888), "best_ckpt": "best_0_hmean-iou:hmean_epoch_8.pth"},
        **meta,
    }
    return {"meta": meta, "state_dict": weights, "optimizer": optimizer.state_dict()}


@pytest.mark.parametrize("family", ORIGINS)
def test_there_and_back(detection_golden, tmp_path, monkeypatch, capsys, family):
    monkeypatch.chdir(tmp_path)
    folder = detection_golden / f"tcm_{family}"
    state, expected = detection_weights(folder / "manifest.json"), golden_config(folder)
    torch.save(mmcv(state, CONFIG.format(tcm=expected.tcm)), "best.pth")
    fields = options(folder).fields["tcm"]
    arguments = ["--set", f"tcm.decoder_heads={fields['decoder_heads']}", "--set", f"tcm.dropout={fields['dropout']}"]
    arguments += ["--set", f"tcm.clip.text_heads={fields['clip']['text_heads']}", "--license", "CC-BY-NC-4.0"]
    assert main(["best.pth", "model", "--verify", *arguments]) == 0
    printed = capsys.readouterr().out
    for line in (ORIGINS[family], expected.tcm.prompt, f"{expected.tcm.prompt_tokens} tokens"):
        assert line in printed
    for line in ("channels", "score_threshold", "long side 640, short side 320", "CC-BY-NC-4.0", "score map", "c5"):
        assert line in printed
    assert "above" not in printed
    assert not (tmp_path / "code_ran").exists()

    model = pretrained.load("model")
    config = detection_config(model.model)
    assert (model.task, config.family, config.tcm) == ("detection", family, expected.tcm)
    assert config.detector.decoding.text_representation == "poly"
    assert (model.inference["scale"], model.preprocessing["multiple"]) == ([640, 320], 32)
    assert len(model.preprocessing["mean"]) == len(model.preprocessing["std"]) == 3

    assert main(["model", "back.pth", "--to-torch"]) == 0
    back = torch.load("back.pth", weights_only=True)
    assert back.keys() == state.keys()
    for key, tensor in state.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[key].numpy(), tensor, key)


@pytest.mark.parametrize("where", ["meta", "state_dict", "optimizer"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, where):
    marker, content = tmp_path / "code_ran", mmcv({"a": np.float32(1)})
    content[where]["a"] = Call(os.system, f"touch {marker}")
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(ConversionError, match=r"bad.pth asks for (posix|nt).system; expected tensors"):
        checkpoints.read(tmp_path / "bad.pth")
    assert not marker.exists()


def test_broken_checkpoints(db, tmp_path):
    path = tmp_path / "broken.pth"

    def error(state):
        torch.save(mmcv(state), path)
        message = error_of(path, tmp_path / "model")
        assert not (tmp_path / "model").exists()
        assert str(path) in message
        return message

    key = "bbox_head.binarize.3.weight"
    assert "no rule uses bbox_head.extra (1,)" in error(db | {"bbox_head.extra": np.zeros(1)})
    without = {k: x for k, x in db.items() if k != key}
    assert "nothing fills params/bbox_head/binarize_3/kernel" in error(without)
    assert f"{key} (1, 2, 3, 4) does not fit" in error(db | {key: np.zeros((1, 2, 3, 4))})
    assert f"{key} (3,) does not fit" in error(db | {key: np.zeros(3)})
    assert "no backbone.layer1.0.conv1.weight" in error({k: x for k, x in db.items() if "backbone" not in k})

    torch.save(mmcv(db), path)
    path.write_bytes(path.read_bytes()[:100_000])
    assert f"{path} is a broken" in error_of(path, tmp_path / "model")


def test_recipes_set_decoding_and_scale(detection_golden, tmp_path):
    state = detection_weights(detection_golden / "tcm_db/manifest.json")
    torch.save({"state_dict": torch_tensors(state)}, tmp_path / "td500.pth")
    command = [str(tmp_path / "td500.pth"), str(tmp_path / "model"), "--set", "detector.unclip_ratio=1.8"]
    fields = options(detection_golden / "tcm_db").fields["tcm"]
    command += ["--set", f"tcm.decoder_heads={fields['decoder_heads']}"]
    assert main([*command, "--recipe", str(CONFIGS / "tcm_db.py:td500")]) == 0
    model = pretrained.load(tmp_path / "model")
    decoding = model.model["detector"]["decoding"]
    assert (decoding["mask_threshold"], decoding["max_candidates"], decoding["approximate"]) == (0.08, 1000, False)
    assert decoding["unclip_ratio"] == 1.8
    assert model.inference["scale"] == [4068, 736]
    for recipe, message in {
        "clip4str_base.py": "expected 'detection'",
        "tcm_db.py:svt": "unknown variant 'svt'",
        "tcm_pan.py:ic15": "text_threshold",
        "none.py": "No such file",
    }.items():
        assert message in error_of(*command, "--recipe", CONFIGS / recipe)
