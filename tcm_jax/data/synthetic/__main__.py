"""A sheet of synthetic words to look at.

python -m tcm_jax.data.synthetic -n 48 --difficulty 1 -o sheet.png
"""

import argparse
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from tcm_jax.data.records import Record
from tcm_jax.data.synthetic import SyntheticWords
from tcm_jax.data.synthetic.fonts import FontLibrary
from tcm_jax.data.synthetic.words import SPLITS
from tcm_jax.text.charset import load_charset

_CELL_W, _IMAGE_H, _CAPTION_H, _COLUMNS = 200, 64, 18, 8


def sheet(records: Iterable[Record]) -> Image.Image:
    """The images of `records`, shrunk to fit, each above its label."""
    records = list(records)
    font = next(font for font in FontLibrary().fonts if font.name == "Roboto Regular").at(14)
    cell_h = _IMAGE_H + _CAPTION_H
    page = Image.new("RGB", (_CELL_W * _COLUMNS, cell_h * -(-len(records) // _COLUMNS)), "white")
    pen = ImageDraw.Draw(page)
    for i, record in enumerate(records):
        x, y = i % _COLUMNS * _CELL_W, i // _COLUMNS * cell_h
        image = Image.fromarray(np.asarray(record.image))
        image.thumbnail((_CELL_W - 4, _IMAGE_H - 4))
        page.paste(image, (x + 2, y + 2))
        pen.text((x + 2, y + _IMAGE_H), record.label, fill="black", font=font)
    return page


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tcm_jax.data.synthetic", description=__doc__.splitlines()[0]
    )
    parser.add_argument("-n", type=int, default=48, help="number of words")
    parser.add_argument("-o", default="sheet.png", help="image file to write")
    parser.add_argument("--charset", default="94", help="36, 62, 94, file:PATH or the characters themselves")
    parser.add_argument("--max_length", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--difficulty", type=float, default=1.0, help="0 (clean) to 1")
    parser.add_argument("--font_dir", help="folder of more fonts")
    parser.add_argument("--word_file", help="one word per line")
    options = vars(parser.parse_args(arguments))
    number, output = options.pop("n"), options.pop("o")
    words = SyntheticWords(load_charset(options.pop("charset")), size=number, **options)
    sheet(words[i] for i in range(number)).save(output)
    print(f"{output}: {number} words, {len(words.fonts.fonts)} fonts, {len(words.words.words)} listed words")


if __name__ == "__main__":
    main()
