"""A table as text, narrow enough to read on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def text_table(columns: Mapping[str, Sequence[object]]) -> str:
    """Return the columns side by side under their names, floats with three significant digits.

    Parameters
    ----------
    columns : mapping of str to sequence
        Equally long; anything but a float is written as `str` writes it.

    Returns
    -------
    str
        One line for the names and one a row, without trailing spaces.

    Raises
    ------
    ValueError
        If the columns differ in length.

    Examples
    --------
    >>> print(text_table({"rate": [0.1, 1], "loss": [2.30259, 0.5]}))
    rate  loss
    0.1   2.3
    1     0.5
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have lengths {lengths}; expected equal ones.")
    cells = [[name, *map(_text, values)] for name, values in columns.items()]
    widths = [max(map(len, column)) for column in cells]
    rows = zip(*cells, strict=True)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
