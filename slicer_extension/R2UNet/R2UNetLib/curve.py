"""A training's loss and Dice as a picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import qt
from slicer.i18n import tr as _

from .training import Epoch

LOSS, DICE, AXES = "#d55e00", "#0072b2", "#808080"  # safe for colour-blind people
LEFT, RIGHT, TOP, BOTTOM = 44, 30, 22, 20  # margins in pixels


def curve(epochs: Sequence[Epoch], count: int, width: int, height: int) -> qt.QPixmap:
    """Draw a learning curve: the loss on the left scale from 0 to its highest value, Dice on the right from 0 to 1.

    Args:
        epochs: The epochs so far.
        count: Total number of epochs.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """
    pixmap = qt.QPixmap(width, height)
    pixmap.fill(qt.QColor("#ffffff"))
    painter = qt.QPainter(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    highest = max([epoch.loss for epoch in epochs] or [1.0]) or 1.0
    right, bottom = width - RIGHT, height - BOTTOM

    def x_of(number: int) -> int:
        return LEFT + round((right - LEFT) * (number - 1) / max(count - 1, 1))

    def y_of(share: float) -> int:
        return bottom - round((bottom - TOP) * share)

    painter.setPen(qt.QColor(AXES))
    for start, end in (
        ((LEFT, TOP), (LEFT, bottom)),
        ((LEFT, bottom), (right, bottom)),
        ((right, TOP), (right, bottom)),
    ):
        painter.drawLine(*start, *end)
    painter.drawText(LEFT, height - 5, "1")
    painter.drawText(right - 8 * len(str(count)), height - 5, str(count))
    painter.setPen(qt.QColor(LOSS))
    painter.drawText(4, 14, _("Loss"))
    painter.drawText(4, TOP + 12, f"{highest:.2f}")
    painter.drawText(4, bottom, "0")
    _line(painter, LOSS, [(x_of(epoch.number), y_of(epoch.loss / highest)) for epoch in epochs])
    painter.setPen(qt.QColor(DICE))
    painter.drawText(right - 90, 14, _("Dice (validation)"))
    painter.drawText(right + 4, TOP + 12, "1")
    painter.drawText(right + 4, bottom, "0")
    _line(painter, DICE, [(x_of(epoch.number), y_of(epoch.dice)) for epoch in epochs if epoch.dice is not None])
    painter.end()
    return pixmap


def _line(painter: qt.QPainter, colour: str, points: Sequence[tuple[int, int]]) -> None:
    pen = qt.QPen(qt.QColor(colour))
    pen.setWidth(2)
    painter.setPen(pen)
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        painter.drawLine(x, y, next_x, next_y)
    for x, y in points:  # a single epoch is a dot
        painter.drawEllipse(x - 1, y - 1, 3, 3)
