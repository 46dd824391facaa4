"""What the Robust Reading Competition takes for reading text in images (ICDAR 2015, task 4.4).

A zip file with res_NAME.txt for each image NAME.jpg: a line x1,y1,x2,y2,x3,y3,x4,y4,TEXT for each word, in UTF-8.
"""

import re
from pathlib import Path

import cv2
import numpy as np


def entry(name: str) -> str:
    """The file for the image `name`."""
    return f"res_{Path(name).stem}.txt".encode(errors="backslashreplace").decode()


def line(polygon: np.ndarray, text: str) -> str:
    """One word, with the line break. polygon: [n, 2], x and y in pixels; of one that has not four corners, the smallest
    rectangle around it counts.
    """
    return f"{','.join(map(str, _corners(polygon).ravel()))},{_quoted(text)}\n"


def _corners(polygon: np.ndarray) -> np.ndarray:
    """int [4, 2], clockwise as they are seen: the competition refuses others."""
    outline = np.asarray(polygon, np.float32)
    corners = outline if len(outline) == 4 else cv2.boxPoints(cv2.minAreaRect(outline))
    points = np.round(corners).astype(int)
    x, y = (points - points[0]).T
    turned = x[1] * y[2] - x[2] * y[1] + x[2] * y[3] - x[3] * y[2] < 0
    return points[::-1] if turned else points


def _quoted(text: str) -> str:
    """The competition takes quotation marks around a text away, and then backslashes before those inside: such a text
    gets a second pair.
    """
    if re.fullmatch(r'\s*".*"\s*', text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
