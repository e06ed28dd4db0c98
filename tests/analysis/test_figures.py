"""Figures of many series: each can be told from the others."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from s3router.analysis import figures
from s3router.analysis.drawing import colours, ink_on, text_width

NAMES = [f"route{n:02d}" for n in range(20)]
SVG = "{http://www.w3.org/2000/svg}"


def test_no_two_curves_look_alike():
    series = {name: np.array([n, n + 1.0]) for n, name in enumerate(NAMES)}
    figure = figures.curves("c", "Curves", [0, 1], series, ("x", "y"), "")
    drawn = [line for line in ElementTree.fromstring(figure.svg).iter(f"{SVG}polyline") if line.get("stroke")]
    curves = [(line.get("stroke"), line.get("stroke-dasharray")) for line in drawn[-len(NAMES) :]]
    assert len(set(curves)) == len(NAMES)
    legend = [(line.get("stroke"), line.get("stroke-dasharray")) for line in drawn[: -len(NAMES)]]
    assert legend == curves[8:]  # the first have a square, and no dashes
    assert {dash for _, dash in curves[:8]} == {None}


def test_no_two_routes_on_a_map_look_alike():
    values = np.random.default_rng(0).random((20, 20))
    figure = figures.language_map(NAMES, NAMES, (values + values.T) / 2, "")
    looks = set()
    for node in ElementTree.fromstring(figure.svg).iter():
        if node.get("fill", "").startswith("var(--s"):
            corners = [[float(at) for at in corner.split(",")] for corner in node.get("points", "").split()]
            shape = tuple(tuple(np.round(np.subtract(corner, corners[0]))) for corner in corners)  # none: a circle
            looks.add((node.get("fill"), shape))
    assert len(looks) == len(NAMES)


def test_long_names_stay_on_the_map():
    names = [f"{'x' * length}_{n}" for n, length in enumerate((40, 50, 60, 55))]
    values = np.random.default_rng(1).random((4, 4))
    found = ElementTree.fromstring(figures.language_map(names, names, (values + values.T) / 2, "").svg)
    width = float(found.get("width"))
    named = [node for node in found.iter(f"{SVG}text") if node.text in names]
    assert len(named) == 4
    for node in named:
        assert 0 <= float(node.get("x")) <= width - text_width(node.text)


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)])


def luminance(colour: np.ndarray) -> float:
    """As WCAG 2 defines it."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["heat", "cold"])
def test_numbers_in_cells_can_be_read(scheme, kind):
    """Whatever the shade: a contrast of 4.5, but for rounding."""
    named = dict(re.findall(r"--([\w-]+):(#\w+);", colours(scheme)))
    for shade in np.linspace(0, 1, 201):
        cell = shade * rgb(named[kind]) + (1 - shade) * rgb(named["paper"])
        ink = ink_on(float(shade), kind == "heat")
        written = rgb(named.get(ink.removeprefix("var(--").rstrip(")"), ink))
        dark, light = sorted(map(luminance, (cell, written)))
        assert (light + 0.05) / (dark + 0.05) > 4.45, shade


def test_the_cells_of_a_heat_map_are_written_so():
    values = np.array([[1, 0.7, -0.65], [0.7, 1, 1.0], [-0.65, 1.0, 1]])
    found = figures.heat_map(["a", "b", "c"], values, "").svg
    written = set(re.findall(r'style="fill:([^"]+)">([^<]+)<', found))
    assert written == {("#000000", "-.65"), ("#000000", ".70"), ("var(--on-heat)", "1.00")}


@pytest.mark.parametrize(("heights", "anchor"), [([1.0, 3.0, 9.0], "end"), ([9.0, 3.0, 1.0], "start")])
def test_the_name_of_a_level_stands_where_the_lines_leave_room(heights, anchor):
    figure = figures.curves("c", "Curves", [0, 1, 2], {"a": np.array(heights)}, ("x", "y"), "", level=("level", 1.0))
    (named,) = [node for node in ElementTree.fromstring(figure.svg).iter(f"{SVG}text") if node.text == "level"]
    assert named.get("text-anchor") == anchor
