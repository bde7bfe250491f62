"""Drawn faces that MediaPipe takes for faces, and a judge that reads off what it is told."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.eval.mediapipe import Face

Array = NDArray[Any]


def drawn_face(mouth: float, lids: float, size: int = 256) -> Array:
    """A face (size, size, 3), RGB, with a mouth open by up to 10 and lids by 2 (closed) to 8."""
    picture = np.full((1024, 1024, 3), (120, 140, 160), np.uint8)

    def ellipse(x: float, y: float, wide: float, high: float, colour: tuple[int, int, int]) -> None:
        axes = round(4 * wide), max(1, round(4 * high))
        cv2.ellipse(picture, (round(4 * x), round(4 * y)), axes, 0, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(128, 110, 78, 98, (60, 40, 30))
    ellipse(128, 135, 66, 84, (224, 172, 140))
    for x in (103, 153):
        ellipse(x, 108, 15, 3, (70, 45, 30))
        ellipse(x, 122, 13, lids, (250, 250, 250))
        if lids > 3:
            ellipse(x, 122, min(6, lids), min(6, lids), (50, 30, 20))
        else:
            ellipse(x, 122, 13, 2, (90, 60, 45))
    ellipse(128, 152, 10, 7, (196, 140, 110))
    ellipse(122, 155, 3, 2, (120, 80, 60))
    ellipse(134, 155, 3, 2, (120, 80, 60))
    ellipse(128, 180, 26, 6 + mouth, (180, 80, 80))
    ellipse(128, 180, 20, mouth, (60, 20, 20)) if mouth > 0 else ellipse(128, 180, 24, 1, (110, 50, 50))
    small = cv2.resize(cv2.GaussianBlur(picture, (0, 0), 3), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def told_picture(mouth: float, eyes: float, person: float = 0.5, size: int = 32) -> Array:
    """A picture that `ToldJudge` reads: values in [0, 1], one a channel; blue 0 means that no face is there."""
    level = np.array([mouth, eyes, person]) * 255
    return np.broadcast_to(level.round().astype(np.uint8), (size, size, 3)).copy()


class ToldJudge:
    """Red is the mouth's opening, green the eyes', blue the person; the mesh moves down as the mouth opens."""

    def __init__(self) -> None:
        self.looked = self.embedded = 0

    def look(self, picture: Array) -> Face | None:
        """As `FaceJudge`."""
        self.looked += 1
        mouth, eyes, person = picture.reshape(-1, 3).mean(0) / 255
        if person < 1e-3:
            return None
        mesh = np.zeros((468, 2))
        mesh[[362, 263], 0] = 100  # eyes 100 pixels apart
        mesh[:, 1] += 10 * mouth
        return Face(mesh, float(mouth), float(eyes))

    def embedding(self, picture: Array, face: Face) -> Array:
        """As `FaceJudge`."""
        self.embedded += 1
        return np.full(128, picture[..., 2].mean() / 255 / np.sqrt(128))
