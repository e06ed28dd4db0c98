"""Sizes of additions at equal bytes, so that methods are compared at what they cost to keep."""

from __future__ import annotations

from collections.abc import Iterable

MASK_BITS = 0.466
"""Bits per weight of a coded mask that removes 10 %: 3.3 MB for the feed-forward layers of a base-size encoder."""
VALUE_BITS = 16
"""Additions are kept in half precision."""


def rank_at_equal_bytes(shapes: Iterable[tuple[int, int]]) -> int:
    """The rank r at which r·(rows + columns) values per matrix take as many bytes as coded masks of the matrices."""
    shapes = list(shapes)
    weights = sum(rows * columns for rows, columns in shapes)
    return max(1, round(weights * MASK_BITS / VALUE_BITS / sum(rows + columns for rows, columns in shapes)))


def bottleneck_at_equal_bytes(weights: int, widths: Iterable[int]) -> int:
    """The width b at which bottlenecks behind layers of these widths take as many bytes as coded masks.

    Args:
        weights: how many weights the masks would be on.
        widths: output width of each layer with a bottleneck.
    """
    widths = list(widths)
    left = weights * MASK_BITS / VALUE_BITS - sum(widths)  # the biases of the way up
    return max(1, round(left / sum(2 * width + 1 for width in widths)))
