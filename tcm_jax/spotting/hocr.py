"""hOCR 1.2 (https://kba.github.io/hocr-spec/1.2/): images as pages of lines of words, in HTML that is also XML."""

import html
import math
import re

import numpy as np

from tcm_jax.spotting.results import SpottedImage, SpottedWord
from tcm_jax.version import __version__

HEAD = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml">
<head>
<title></title>
<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>
<meta name="ocr-system" content="tcm_jax {__version__}"/>
<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word"/>
</head>
<body>
"""
FOOT = "</body>\n</html>\n"

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def page(image: SpottedImage, number: int) -> str:
    """The element `ocr_page` of an image, the `number`-th (from 0) of the document.

    Boxes hold whole pixels; `x_wconf` is the word's probability in per cent. `poly` is its outline.
    """
    name = image.name.replace('"', "%22")  # hOCR knows no escapes in strings
    title = _escaped(f'image "{name}"; bbox 0 0 {image.width} {image.height}; ppageno {number}')
    rows = [f'<div class="ocr_page" id="page_{number}" title="{title}">']
    for i, line in enumerate(image.lines):
        corners = np.concatenate([word.polygon for word in line])
        rows.append(f'<span class="ocr_line" id="line_{number}_{i}" title="{_box(corners)}">')
        rows += [_word(word, f"word_{number}_{i}_{k}") for k, word in enumerate(line)]
        rows.append("</span>")
    return "\n".join([*rows, "</div>", ""])


def _word(word: SpottedWord, name: str) -> str:
    outline = " ".join(str(round(float(value))) for value in word.polygon.ravel())
    title = f"{_box(word.polygon)}; x_wconf {round(100 * word.score)}; poly {outline}"
    return f'<span class="ocrx_word" id="{name}" title="{title}">{_escaped(word.text)}</span>'


def _box(points: np.ndarray) -> str:
    """Of points [n, 2], rounded outwards."""
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return f"bbox {math.floor(left)} {math.floor(top)} {math.ceil(right)} {math.ceil(bottom)}"


def _escaped(text: str) -> str:
    """For HTML and XML; characters that XML doesn't have at all are replaced."""
    return html.escape(_NO_XML.sub("\ufffd", text))
