"""Converts checkpoints of CLIP, CLIP4STR and TCM to model directories, and back.

python -m convert SOURCE DEST         SOURCE: a .pt, .pth, .ckpt, .bin, .safetensors file or a Hugging Face folder
python -m convert DEST OUT --to-torch OUT: a .pt, .pth, .bin or .safetensors file

Installed, it is `tcm-jax convert`.
"""

import argparse
import json
import runpy
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tcm_jax import pretrained
from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.convert import checkpoints
from tcm_jax.convert.architecture import Architecture, clip_of
from tcm_jax.convert.clip_sizes import ConversionOptions
from tcm_jax.convert.conversion import from_checkpoint, to_state_dict
from tcm_jax.convert.engine import ConversionError
from tcm_jax.convert.mmcv_config import DECODING
from tcm_jax.detection.model import DetectionConfig, detection_config
from tcm_jax.files import as_path
from tcm_jax.models.clip4str import CLIP4STRConfig
from tcm_jax.models.layers import ACTIVATIONS
from tcm_jax.pretrained import Pretrained
from tcm_jax.text.charset_spec import load_charset

NECK_FIELDS = ("lateral_channels", "out_channels", "channels", "repeats", "fourier_degree")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("source", type=as_path, help="checkpoint to read (with --to-torch: model directory)")
    add("dest", type=as_path, help="model directory to write (with --to-torch: file)")
    add("--to-torch", action="store_true", help="write a PyTorch state dict of a model directory")
    add("--verify", action="store_true", help="compare the result with PyTorch; exit 1 if it differs")
    add("--charset", help="characters of the decoders: 36, 62, 94, file:PATH or the characters")
    help_text = "of CLIP's towers; default quick_gelu, but gelu for OpenCLIP files, and what a config.json says"
    add("--activation", choices=sorted(ACTIVATIONS), help=help_text)
    add("--image-size", type=int, nargs=2, metavar=("H", "W"), help="default: a square, or the file's")
    help_text = "sides that images are resized to for a detector; default: the file's, else that of the released models"
    add("--scale", type=int, nargs=2, metavar=("LONG", "SHORT"), help=help_text)
    help_text = "any field of the configuration: decoder_heads=4, detector.decoding.mask_threshold=0.3; may be repeated"
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help=help_text)
    help_text = "a detector's decoding and scale as in a recipe, such as configs/tcm_db.py:td500; --set overrides it"
    add("--recipe", metavar="FILE[:VARIANT]", help=help_text)
    add("--license", help="licence of the weights, kept in the directory")
    add("--source-name", help="where the weights come from; default: kind and file name")
    return parser


def _fields(settings: Sequence[str]) -> dict[str, Any]:
    """["clip.vision_heads=16"] -> {"clip": {"vision_heads": 16}}; what is no JSON is a string."""
    fields: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConversionError(f"--set {setting}: expected FIELD=VALUE")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *parents, name = path.split(".")
        inner = fields
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return fields


def _recipe(argument: str) -> tuple[dict[str, Any], tuple[int, int]]:
    """Decoding parameters and scale in a recipe, which is Python and is run."""
    file, _, variant = argument.partition(":")
    values = runpy.run_path(file).get("get_config", lambda *_: {})(*filter(None, [variant]))
    if values.get("task") != "detection":
        raise ConversionError(f"--recipe {argument}: task is {values.get('task')!r}, expected 'detection'")
    config = values.to_dict()
    detector = detection_config(config["model"]).detector
    return dict(vars(detector.decoding)), config["inference"]["scale"]


def _summary(model: Pretrained, architecture: Architecture) -> str:
    config = architecture.config
    clip = clip_of(config)
    tower = "ModifiedResNet" if clip.is_resnet else f"ViT, patches {'x'.join(map(str, clip.patch_size))}"
    sizes = f"{tower}, width {clip.vision_width}, layers {clip.vision_layers}"
    lines = [f"kind        {architecture.origin}"]
    if isinstance(config, DetectionConfig) and not config.tcm.text_matching:
        lines.append(f"image       {sizes}")
    else:
        positions = "positions of " if isinstance(config, DetectionConfig) else ""
        lines += [
            f"image       {positions}{clip.image_size[0]}x{clip.image_size[1]}, {sizes}, heads {clip.vision_heads}",
            f"text        {clip.text_positions} positions, width {clip.text_width}, layers {clip.text_layers}, "
            f"heads {clip.text_heads}",
            f"embedding   {clip.embed_dim}, activation {clip.activation}",
        ]
    if isinstance(config, CLIP4STRConfig):
        lines.append(
            f"decoders    {1 + config.use_language_model}, depth {config.decoder_depth}, heads "
            f"{config.decoder_heads}, {len(config.charset)} characters, words up to {config.max_label_length}"
        )
    if isinstance(config, DetectionConfig):
        lines += _detector_lines(config, model.inference)
    count = pretrained.count_parameters(model.variables)
    lines.append(f"parameters  {count:,} ({count / 1e6:.1f} M)")
    lines += [f"sha256      {digest}  {name}" for name, digest in model.extra["sha256"].items()]
    lines += [f"source      {model.source}", f"licence     {model.license}"]
    return "\n".join(lines + [f"note        {note}" for note in architecture.notes])


def _detector_lines(config: DetectionConfig, inference: Mapping[str, Any]) -> list[str]:
    """Prompt and components, sizes of neck and head, and how instances are made of maps."""
    lines, tcm = [], config.tcm
    if tcm.text_matching:
        words = json.dumps(tcm.prompt) if tcm.prompt else "no words"
        components = ("language_prompt", "visual_prompt", "context_decoder", "scale_score_map", "fast")
        names = [name.replace("_", " ") for name in components if getattr(tcm, name)]
        lines = [
            f"prompt      {words}, {tcm.learnable_prompt} learnable vectors, {tcm.prompt_tokens} tokens",
            f"components  {', '.join(names) or 'no other'}; decoders of width {tcm.decoder_width}, layers "
            f"{tcm.decoder_layers}, heads {tcm.decoder_heads}",
        ]
    detector = config.detector
    for title, part, fields in (
        ("neck, head  ", detector, NECK_FIELDS),
        ("decoding    ", detector.decoding, DECODING[config.family]),
    ):
        values = [f"{name} {getattr(part, name)}" for name in fields if hasattr(part, name)]
        lines += textwrap.wrap(title + ", ".join(values), 118, subsequent_indent=" " * 12)
    long, short = inference["scale"]
    return [*lines, f"scale       long side {long}, short side {short} at most"]


def _from_torch(args: argparse.Namespace) -> bool:
    """Writes and describes a model directory; False if --verify finds a difference."""
    replaceable = all((args.dest / name).is_file() for name in (pretrained.CONFIG, pretrained.WEIGHTS))
    if args.dest.exists() and not replaceable:
        raise ConversionError(f"{args.dest} exists and is no model directory; give a new name")
    fields, scale = _fields(args.set), args.scale
    if args.recipe:
        decoding, usual = _recipe(args.recipe)
        fields["detector"] = decoding | fields.get("detector", {})
        scale = scale or usual
    options = ConversionOptions(
        charset=load_charset(args.charset) if args.charset else None,
        activation=args.activation,
        image_size=tuple(args.image_size) if args.image_size else None,
        scale=tuple(scale) if scale else None,
        fields=fields,
    )
    model, architecture = from_checkpoint(args.source, options, args.source_name, args.license or "unknown")
    model.save(args.dest)
    print(_summary(model, architecture))
    print(f"wrote       {args.dest}")
    if not args.verify:
        return True
    checkpoints.import_torch(args.source)
    from tcm_jax.convert.verify import report, verify  # needs PyTorch

    rows = verify(pretrained.load(args.dest), architecture)
    print(report(rows))
    return all(row.passed for row in rows)


@command
def main(argv: Sequence[str] | None = None, prog: str = "python -m convert") -> int:
    """Converts what the arguments (default: those of the process) say; returns 1 if --verify finds a difference."""
    parser = _parser(prog)
    args = parser.parse_args(argv)
    if not args.to_torch:
        return 0 if _from_torch(args) else 1
    given = [n for n, v in vars(args).items() if v and n not in ("source", "dest", "to_torch")]
    if given:
        parser.error(f"--{given[0].replace('_', '-')} does not go with --to-torch")
    state = to_state_dict(pretrained.load(args.source))
    checkpoints.write(args.dest, state)
    print(f"wrote {args.dest}: {len(state)} tensors, {sum(x.size for x in state.values()):,} values")
    return 0
