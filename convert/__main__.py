"""Converts checkpoints of CLIP and CLIP4STR to model directories, and back.

python -m convert SOURCE DEST         SOURCE: a .pt, .ckpt, .bin, .safetensors file or a Hugging Face folder
python -m convert DEST OUT --to-torch OUT: a .pt, .pth, .bin or .safetensors file
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert import checkpoints, conversion
from convert.architecture import Architecture
from convert.clip_sizes import Options
from convert.engine import ConversionError
from tcm_jax import pretrained
from tcm_jax.models.clip import ClipConfig
from tcm_jax.models.clip4str import Clip4StrConfig
from tcm_jax.models.layers import ACTIVATIONS
from tcm_jax.pretrained import Pretrained
from tcm_jax.text.charset import load_charset


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="checkpoint to read (with --to-torch: model directory)")
    parser.add_argument("dest", type=Path, help="model directory to write (with --to-torch: file)")
    parser.add_argument("--to-torch", action="store_true", help="write a PyTorch state dict of a model directory")
    parser.add_argument("--verify", action="store_true", help="compare the result with PyTorch; exit 1 if it differs")
    parser.add_argument("--charset", help="characters of the decoders: 36, 62, 94, file:PATH or the characters")
    parser.add_argument(
        "--activation",
        choices=sorted(ACTIVATIONS),
        help="of CLIP's towers; default quick_gelu, but gelu for OpenCLIP files, and what a config.json says",
    )
    parser.add_argument("--image-size", type=int, nargs=2, metavar=("H", "W"), help="default: a square, or the file's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="any field of the configuration: decoder_heads=4, clip.vision_heads=16; may be repeated",
    )
    parser.add_argument("--license", help="licence of the weights, kept in the directory")
    parser.add_argument("--source-name", help="where the weights come from; default: kind and file name")
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


def _summary(model: Pretrained, architecture: Architecture) -> str:
    config = architecture.config
    clip = config if isinstance(config, ClipConfig) else config.clip
    patch = "x".join(map(str, clip.patch_size))
    lines = [
        f"kind        {architecture.origin}",
        f"image       {clip.image_size[0]}x{clip.image_size[1]}, "
        + ("ModifiedResNet" if clip.is_resnet else f"ViT, patches {patch}")
        + f", width {clip.vision_width}, layers {clip.vision_layers}, heads {clip.vision_heads}",
        f"text        {clip.text_positions} positions, width {clip.text_width}, layers {clip.text_layers}, "
        f"heads {clip.text_heads}",
        f"embedding   {clip.embed_dim}, activation {clip.activation}",
    ]
    if isinstance(config, Clip4StrConfig):
        lines.append(
            f"decoders    {1 + config.use_language_model}, depth {config.decoder_depth}, heads "
            f"{config.decoder_heads}, {len(config.charset)} characters, words up to {config.max_label_length}"
        )
    count = pretrained.count_parameters(model.variables)
    lines.append(f"parameters  {count:,} ({count / 1e6:.1f} M)")
    lines += [f"sha256      {digest}  {name}" for name, digest in model.extra["sha256"].items()]
    lines += [f"source      {model.source}", f"licence     {model.license}"]
    return "\n".join(lines + [f"note        {note}" for note in architecture.notes])


def _from_torch(args: argparse.Namespace) -> bool:
    """Writes and describes a model directory; False if --verify finds a difference."""
    replaceable = args.dest.is_dir() and (
        (args.dest / pretrained.CONFIG).is_file() and (args.dest / pretrained.WEIGHTS).is_file()
    )
    if args.dest.exists() and not replaceable:
        raise ConversionError(f"{args.dest} exists and is no model directory; give a new name")
    options = Options(
        charset=load_charset(args.charset) if args.charset else None,
        activation=args.activation,
        image_size=tuple(args.image_size) if args.image_size else None,
        fields=_fields(args.set),
    )
    model, architecture, _ = conversion.from_checkpoint(
        args.source, options, args.source_name, args.license or "unknown"
    )
    model.save(args.dest)
    print(_summary(model, architecture))
    print(f"wrote       {args.dest}")
    if not args.verify:
        return True
    checkpoints.import_torch(args.source)
    from convert.verify import report, verify  # needs PyTorch

    model = pretrained.load(args.dest)
    rows = verify(model, architecture)
    print(report(rows))
    return all(row.passed for row in rows)


def _to_torch(args: argparse.Namespace) -> None:
    state = conversion.to_state_dict(pretrained.load(args.source))
    checkpoints.write(args.dest, state)
    print(f"wrote {args.dest}: {len(state)} tensors, {sum(x.size for x in state.values()):,} values")


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if not args.to_torch:
            return 0 if _from_torch(args) else 1
        given = [n for n, v in vars(args).items() if v and n not in ("source", "dest", "to_torch")]
        if given:
            parser.error(f"--{given[0].replace('_', '-')} does not go with --to-torch")
        _to_torch(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
