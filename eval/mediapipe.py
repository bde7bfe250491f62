"""An independent judge of faces: MediaPipe's published networks run by LiteRT, and dlib's embedding of a person.

None was trained by us or on our data: where the face is (BlazeFace, Bazarevsky et al. 2019), its mesh (Kartynnik et al.
2019), the lids (Ablavatski et al. 2020), and who it is (the residual network of King 2017). `prepare_judge.py` fetches
MediaPipe's files; `pip install "autolink-keypoints[judge]"` brings what runs them.
"""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from autolink.errors import UsageError, UserError

Array = NDArray[Any]

RELEASE = "0.10.21"
FILES = {
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
}
"""The networks and their SHA-256; where they are in MediaPipe's wheel: `mediapipe/modules/FOLDER/NAME`."""

PREPARE = "run `autolink eval prepare-judge` once"
INSTALL = 'pip install "autolink-keypoints[judge]"'

LEFT_CORNERS, RIGHT_CORNERS = (33, 133), (362, 263)
"""The mesh's corners of the eye on the picture's left, outer one first, and of that on the right, inner one first."""
LIPS = 13, 14
"""The mesh's middles of upper and lower lip, on the inside."""
DLIB_POINTS = 263, 362, 33, 133, 2
"""The five points that dlib's embedding is aligned by, in its order: corners of the eyes, base of the nose."""

BELIEVED = 0.5
"""Confidence of the detector, and of the mesh that there is a face, from which there is one."""
SMALLEST, LARGEST = 256, 512
"""Longer side in pixels to which smaller and larger pictures are brought."""
LEAST_EYES = 10.0
"""Inter-ocular distance in pixels below which a face is too small to be judged."""


class Face(NamedTuple):
    """What is seen of a face."""

    mesh: Array
    """(468, 2), (x, y) in pixels of the picture."""
    mouth: float
    """Opening of the inner lips over the inter-ocular distance."""
    eyes: float
    """Opening of the lids over the width of the eye, mean of both."""

    @property
    def inter_ocular(self) -> float:
        """Distance of the centres of the eyes in pixels."""
        left, right = (self.mesh[list(corners)].mean(0) for corners in (LEFT_CORNERS, RIGHT_CORNERS))
        return float(np.linalg.norm(right - left))


class FaceJudge(Protocol):
    """Whatever sees faces; `MediaPipeJudge` does, and tests have others."""

    def look(self, picture: Array) -> Face | None:
        """The face of a picture (H, W, 3), 8-bit RGB; None if there is none."""
        ...

    def embedding(self, picture: Array, face: Face) -> Array:
        """Who it is: (128,)."""
        ...


def judge_folder() -> Path:
    """Where the networks are: what AUTOLINK_JUDGE names, else a folder in PyTorch's."""
    given = os.environ.get("AUTOLINK_JUDGE")
    return Path(given) if given else Path(torch.hub.get_dir()) / f"mediapipe-{RELEASE}"


def network_file(folder: Path, name: str) -> bytes:
    """The contents of one of `FILES`.

    Raises:
        UserError: it is missing or is another file.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(f"--judge mediapipe: {path} is not there; {PREPARE}, or let AUTOLINK_JUDGE name its folder")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise UserError(f"{path} is damaged or of another release: its SHA-256 differs; {PREPARE} with --overwrite")
    return content


def embedding_file() -> Path:
    """dlib's network in the package face_recognition_models, which is not imported: it needs old setuptools.

    Raises:
        UsageError: the package is not installed.
    """
    found = find_spec("face_recognition_models")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"--judge mediapipe needs face-recognition-models: {INSTALL}")
    return Path(found.submodule_search_locations[0]) / "models" / "dlib_face_recognition_resnet_model_v1.dat"


class MediaPipeJudge:
    """The networks, ready to look; pictures are (H, W, 3), 8-bit RGB."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load them from a folder, by default `judge_folder()`.

        Raises:
            UserError: a package is not installed, a file is missing or another.
        """
        try:
            import dlib
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise UsageError(f"--judge mediapipe needs {error.name}: {INSTALL}") from None
        self.dlib = dlib
        who = embedding_file()
        networks = [Interpreter(model_content=network_file(folder or judge_folder(), name), num_threads=1)
                    for name in FILES]  # fmt: skip
        for network in networks:
            network.allocate_tensors()
        self.detector, self.mesh, self.iris = networks
        try:
            self.person = dlib.face_recognition_model_v1(str(who))
        except RuntimeError as error:
            raise UserError(f"{who} cannot be read ({error}); install face-recognition-models again") from None

    def look(self, picture: Array) -> Face | None:
        """The most certain face, None if there is none that can be judged."""
        longer = max(picture.shape[:2])
        scale = min(LARGEST, max(SMALLEST, longer)) / longer
        if scale != 1:
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            height, width = (max(1, round(length * scale)) for length in picture.shape[:2])
            picture = cv2.resize(picture, (width, height), interpolation=how)
        found = self._detect(picture)
        if found is None:
            return None
        for _ in range(2):  # the mesh's own outline places the face better than the detector
            mesh, presence = self._mesh(picture, found)
            found = _outline(mesh)
        if presence < BELIEVED:
            return None
        eyes = [self._lids(picture, mesh, found.angle, right) for right in (False, True)]
        face = Face((mesh + 0.5) / scale - 0.5, 0.0, float(np.mean(eyes)))
        if face.inter_ocular * scale < LEAST_EYES:
            return None
        lips = np.linalg.norm(face.mesh[LIPS[0]] - face.mesh[LIPS[1]])
        return face._replace(mouth=float(lips) / face.inter_ocular)

    def embedding(self, picture: Array, face: Face) -> Array:
        """Who it is, (128,); people are mostly more than 0.6 apart (King 2017)."""
        points = self.dlib.points([self.dlib.point(*map(round, face.mesh[n].tolist())) for n in DLIB_POINTS])
        low, high = face.mesh.min(0).round().astype(int).tolist(), face.mesh.max(0).round().astype(int).tolist()
        placed = self.dlib.full_object_detection(self.dlib.rectangle(*low, *high), points)
        return np.array(self.person.compute_face_descriptor(np.ascontiguousarray(picture), placed))

    def _detect(self, picture: Array) -> "_Square | None":
        """The square around the most certain face."""
        height, width = picture.shape[:2]
        crop, to_picture = _cut(picture, _Square(np.array([width, height]) / 2, max(height, width), 0.0), 128)
        boxes, scores = _run(self.detector, crop / 127.5 - 1)
        best = int(scores[0, :, 0].argmax())
        if scores[0, best, 0] < np.log(BELIEVED / (1 - BELIEVED)):
            return None
        box = boxes[0, best]
        centre, *points = to_picture(box[[0, 1, 4, 5, 6, 7]].reshape(-1, 2) + ANCHORS[best] * 128)
        across = points[1] - points[0]
        side = float(max(box[2:4])) / 128 * max(height, width)
        return _Square(centre, side, float(np.arctan2(across[1], across[0])))

    def _mesh(self, picture: Array, square: "_Square") -> tuple[Array, float]:
        """The mesh (468, 2) in pixels, and how sure it is that it lies on a face."""
        crop, to_picture = _cut(picture, square._replace(side=square.side * 1.5), 192)
        points, presence = _run(self.mesh, crop / 255)[:2]
        return to_picture(points.reshape(468, 3)[:, :2]), float(1 / (1 + np.exp(-presence.item())))

    def _lids(self, picture: Array, mesh: Array, angle: float, right: bool) -> float:
        """Opening of one eye over its width; the network knows eyes on the left, those on the right are mirrored."""
        corners = mesh[list(RIGHT_CORNERS if right else LEFT_CORNERS)]
        side = float(np.linalg.norm(corners[1] - corners[0])) * 2.3
        crop, _ = _cut(picture, _Square(corners.mean(0), side, angle), 64)
        found = _run(self.iris, (crop[:, ::-1] if right else crop) / 255)
        points = next(values for values in found if values.size == 71 * 3).reshape(71, 3)[:, :2]
        return float(np.linalg.norm(points[4] - points[12]) / np.linalg.norm(points[0] - points[8]))


class _Square(NamedTuple):
    """A turned square of a picture, in pixels and radians."""

    centre: Array
    side: float
    angle: float


def _anchors() -> Array:
    """Centres of the detector's candidates, (896, 2) in [0, 1]: two on each of 16 x 16 places, six on 8 x 8."""
    grids = []
    for count, each in ((16, 2), (8, 6)):
        axis = (np.arange(count) + 0.5) / count
        x, y = np.meshgrid(axis, axis)
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), each, 0))
    return np.concatenate(grids)


ANCHORS = _anchors()


def _run(network: Any, picture: Array) -> list[Array]:
    """The outputs for one picture (h, w, 3)."""
    network.set_tensor(network.get_input_details()[0]["index"], np.ascontiguousarray(picture[None], np.float32))
    network.invoke()
    return [network.get_tensor(output["index"]) for output in network.get_output_details()]


def _cut(picture: Array, square: _Square, size: int) -> tuple[Array, Any]:
    """A turned square as (size, size, 3), and what brings points (n, 2) in its pixels to those of the picture."""
    cosine, sine = np.cos(square.angle), np.sin(square.angle)
    turn = np.array([[cosine, sine], [-sine, cosine]]) * size / square.side
    shift = size / 2 - turn @ square.centre
    whole = cv2.BORDER_CONSTANT if size == 128 else cv2.BORDER_REPLICATE  # the detector knows black borders
    how = cv2.INTER_AREA if size == 128 else cv2.INTER_LINEAR
    crop = cv2.warpAffine(picture, np.c_[turn, shift], (size, size), flags=how, borderMode=whole)
    return crop, lambda points: (points.astype(np.float64) - shift) @ np.linalg.inv(turn).T


def _outline(mesh: Array) -> _Square:
    """The square around a mesh, upright as the eyes are."""
    across = mesh[RIGHT_CORNERS[1]] - mesh[LEFT_CORNERS[0]]
    angle = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = mesh @ turn.T
    low, high = upright.min(0), upright.max(0)
    return _Square(turn.T @ (low + high) / 2, float((high - low).max()), angle)
