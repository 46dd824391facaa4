"""The configuration text inside mmcv checkpoints: literals are read, nothing runs."""

import pytest

from tcm_jax.convert import mmcv_config

CONFIG = """
train_list = [dict(type='TextDetDataset', ann_file='data/train.txt')]
model = dict(
    type='OCRCLIP',
    class_names=['Text'],
    use_learnable_prompt_only=False,
    use_context_decoder=False,
    tau=0.05,
    text_encoder=dict(type='CLIPTextContextEncoder', transformer_heads=8),
    context_decoder=dict(type='ContextDecoder', transformer_heads=2, dropout=0.0),
    bbox_head=dict(
        type='DBFP16Head',
        postprocessor=dict(type='DBVisPostprocessor', text_repr_type='poly', mask_thr=0.08, use_approxPolyDP=False)))
data = dict(
    test=dict(
        type='UniformConcatDataset',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='MultiScaleFlipAug',
                img_scale=(4068, 736),
                transforms=[
                    dict(type='Resize', img_scale=(2944, 736), keep_ratio=True),
                    dict(type='Normalize', mean=[1.5, 2, -3.0], std=[4, 5, 6], to_rgb=True),
                ])
        ]))
optimizer = dict(type='Ranger', lr=1e-3)
"""


def test_what_the_tensors_do_not_show():
    stated = mmcv_config.read(CONFIG, "db")
    assert stated.tcm == {
        "prompt": "Text",
        "context_decoder": False,
        "tau": 0.05,
        "decoder_heads": 2,
        "dropout": 0.0,
        "clip": {"text_heads": 8},
    }
    assert stated.preprocessing == {"scale": [4068, 736], "mean": [1.5, 2, -3.0], "std": [4, 5, 6]}
    # Arguments that the configuration leaves out have the defaults of the original's postprocessor, not ours.
    assert stated.decoding == {
        "text_representation": "poly",
        "mask_threshold": 0.08,
        "score_threshold": 0.3,
        "min_width": 5,
        "filter_min_width": False,
        "approximate": False,
        "arc_length_ratio": 0.01,
        "unclip_ratio": 1.5,
        "max_candidates": 3000,
    }


def test_other_families():
    pan = "model = dict(bbox_head=dict(postprocessor=dict(type='PANPostprocessor', min_text_area=9)))"
    assert mmcv_config.read(pan, "pan").decoding == {
        "text_representation": "poly",
        "text_threshold": 0.5,
        "kernel_threshold": 0.5,
        "score_threshold": 0.85,
        "min_area": 9,
    }
    fce = "model = {'bbox_head': {'postprocessor': {'type': 'FCEPostprocessor', 'alpha': 1.2, 'beta': 1.0}}}"
    assert mmcv_config.read(fce, "fce").decoding == {
        "alpha": 1.2,
        "beta": 1.0,
        "score_threshold": 0.3,
        "nms_threshold": 0.1,
        "num_points": 50,
    }
    only = "model = dict(class_names=['unused'], use_learnable_prompt_only=True)"
    assert mmcv_config.read(only, "db").tcm == {"prompt": ""}


def test_a_configuration_may_say_nothing():
    for text in ("", "x = 1", "model = 3\ndata = dict(test=[1, (2,)])", "import os\nmodel = dict(bbox_head=None)"):
        assert mmcv_config.read(text, "db") == ({}, {}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(a=1)\nmodel = dict(", "line 2 is no Python"),
        ("\nmodel = __import__('os').system('touch {marker}')", "line 2 is more than a literal"),
        ("model = dict(\n  a=[open('{marker}', 'w')])", "line 2 is more than a literal"),
        ("model = eval('1')", "line 1 is more than a literal"),
        ("model = dict(**open('{marker}', 'w'))", "line 1 is more than a literal"),
        ("data = f\"{{open('{marker}', 'w')}}\"", "line 1 is more than a literal"),
        ("model = [x for x in ()]", "line 1 is more than a literal"),
        ("model = " + "[" * 5000 + "]" * 5000, "line 1 is no Python|nested too deep"),
        ("model = " + "-" * 50_000 + "1", "more than a literal|nested too deep|no Python"),
        ("model = 1\0", "null bytes|no Python"),
    ],
)
def test_nothing_but_literals_has_a_value(tmp_path, text, message):
    marker = tmp_path / "code_ran"
    with pytest.raises(ValueError, match=message):
        mmcv_config.read(text.replace("{marker}", str(marker)), "db")
    assert not marker.exists()
