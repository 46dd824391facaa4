"""Regenerates tcm_jax/text/clip_bpe.npz, the merge table of CLIP's byte-pair encoding.

    pip download --no-deps open_clip_torch==3.3.0
    python -m tcm_jax.convert.bpe_table open_clip_torch-3.3.0-py3-none-any.whl

The wheel (MIT licence, kept beside the table) carries bpe_simple_vocab_16e6.txt.gz, the same bytes as in
openai/CLIP. Its 48,894 merges are stored as pairs of token ids; every token's spelling follows from them.
"""

import argparse
import gzip
import zipfile
from pathlib import Path

import numpy as np

from tcm_jax.text import bpe

VOCABULARY = "open_clip/bpe_simple_vocab_16e6.txt.gz"


def merge_pairs(lines: list[str]) -> np.ndarray:
    """Token ids (left, right) of every merge, uint16 [48894, 2]; merge r makes token 512 + r."""
    ids = {token: i for i, token in enumerate(bpe.base_tokens())}
    pairs = []
    for line in lines:
        left, right = line.split()
        pairs.append((ids[left], ids[right]))
        ids[left + right] = len(ids)
    return np.asarray(pairs, np.uint16)


def main() -> None:
    """Writes the table and the licence from the wheel that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="open_clip_torch wheel from PyPI")
    args = parser.parse_args()
    with zipfile.ZipFile(args.wheel) as wheel:
        lines = gzip.decompress(wheel.read(VOCABULARY)).decode("utf-8").split("\n")
        licence = next(n for n in wheel.namelist() if n.endswith("licenses/LICENSE"))
        bpe.TABLE.with_name("LICENSE.open_clip").write_bytes(wheel.read(licence))
    np.savez_compressed(bpe.TABLE, merges=merge_pairs(lines[1 : bpe.NUM_MERGES + 1]))
    print(f"wrote {bpe.TABLE} ({bpe.TABLE.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
