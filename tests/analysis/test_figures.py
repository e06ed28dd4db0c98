"""Figures of many series: each can be told from the others."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from s3router.analysis import figures

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
