"""Draw the module's icon: a U, and an arrow that returns to its start.

python slicer_extension/Screenshots/make_icon.py
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QGuiApplication, QImage, QPainter, QPainterPath, QPen, QPolygonF

SIZE = 128  # pixels, as Slicer's index of extensions asks for
ICON = Path(__file__).resolve().parents[1] / "R2UNet" / "Resources" / "Icons" / "R2UNet.png"
GROUND, LETTER, ARROW = QColor("#16324f"), QColor("#f4f7fa"), QColor("#f2a65a")


def main() -> None:
    """Draw and write."""
    QGuiApplication([])
    image = QImage(SIZE, SIZE, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QBrush(GROUND))
    painter.drawRoundedRect(QRectF(2, 2, SIZE - 4, SIZE - 4), 22, 22)

    letter = QPainterPath(QPointF(30, 24))
    letter.lineTo(30, 70)
    letter.arcTo(QRectF(30, 36, 68, 68), 180, 180)
    letter.lineTo(98, 24)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(LETTER, 15, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    painter.drawPath(letter)

    loop = QPainterPath()
    loop.arcMoveTo(QRectF(47, 34, 34, 34), 20)
    loop.arcTo(QRectF(47, 34, 34, 34), 20, 290)
    painter.setPen(QPen(ARROW, 7, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap))
    painter.drawPath(loop)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QBrush(ARROW))
    tip = loop.currentPosition()
    painter.drawPolygon(QPolygonF([tip + QPointF(11, -9), tip + QPointF(-7, -9), tip + QPointF(5, 9)]))
    painter.end()
    if not image.save(str(ICON)):
        raise OSError(f"{ICON} could not be written")


if __name__ == "__main__":
    main()
