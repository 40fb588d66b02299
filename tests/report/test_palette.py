"""The colours of groups, as people see them who see fewer colours."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from exitbench.report.study_pictures import _CATEGORY

# What is seen, in linear sRGB: Machado, Oliveira and Fernandes (2009), severity 1.
SEEN = {
    "all colours": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], LUMINANCE, [0.0193339, 0.119192, 0.9503041]])
WHITE = XYZ.sum(axis=1)
APART = 16
"""Distance in CIELAB of the closest two colours of Okabe and Ito's palette under any of these."""
CONTRAST = 3
"""Of graphics, by WCAG 2.1, 1.4.11."""


def linear(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    encoded = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def lab(light):
    ratio = XYZ @ np.clip(light, 0, 1) / WHITE
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.fixture(params=["page.css", "dark.css"])
def style(request):
    text = files("exitbench.report").joinpath(request.param).read_text()
    return dict(re.findall(r"--(\w+): (#\w+);", text))


@pytest.mark.parametrize("seen", SEEN)
def test_groups_can_be_told_apart(style, seen):
    """Two groups in what is one colour to one man in twelve."""
    looks = [lab(np.array(SEEN[seen]) @ linear(style[f"c{i}"])) for i in range(8)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(looks, 2)) >= APART


def test_groups_stand_out(style):
    """A group in a colour that is lost on the panel behind it."""
    panel = LUMINANCE @ linear(style["panel"])
    for i in range(8):
        light = LUMINANCE @ linear(style[f"c{i}"])
        assert (max(light, panel) + 0.05) / (min(light, panel) + 0.05) >= CONTRAST


def test_pictures_have_the_page_s_colours():
    """Pictures left behind when the page's colours change."""
    text = files("exitbench.report").joinpath("page.css").read_text()
    assert re.findall(r"--c\d: (#\w+);", text) == _CATEGORY
