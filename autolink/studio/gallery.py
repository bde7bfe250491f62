"""Something to begin with: rendered people, animals and faces; all but the faces are made when first asked for."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from autolink import generation
from autolink.data.animals import animal_images
from autolink.data.figures import figure_clip, figure_images
from autolink.errors import UserError
from autolink.files import atomic_path
from autolink.studio.session import Session, Upload, new_identity
from autolink.video.writer import VideoWriter

SIDE = 256
FRAMES, RATE = 75, Fraction(25)
SEED = 2022

EXAMPLES = {
    **{f"person-{n}.png": "A rendered person" for n in range(1, 4)},
    **{f"animal-{n}.png": "A rendered animal" for n in range(1, 4)},
    "face.png": "A rendered face",
    "dance.mp4": "A rendered person moving",
    "wave.mp4": "Another one moving",
    "talk.mp4": "A rendered face that talks and blinks",
}
"""File names, and what they show."""

FACES = {"face.png": "face.png", "talk.mp4": "face_driver.mp4"}
"""Examples that the package brings along, and their files."""


def example(session: Session, name: str) -> Path:
    """The file of an example, made if it is not there yet.

    Raises:
        UserError: there is none of that name.
    """
    if name not in EXAMPLES:
        raise UserError(f"there is no example {name}; there are {', '.join(EXAMPLES)}")
    path = session.folder / "examples" / name
    if path.exists():
        return path
    if name in FACES:
        return Path(generation.__file__).parent / "examples" / FACES[name]
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".mp4":
        seed = SEED + list(EXAMPLES).index(name)
        with VideoWriter(path, RATE) as writer:
            for frame in figure_clip(FRAMES, seed, SIDE)[0]:
                writer.write(frame)
        return path
    kind, number = path.stem.split("-")
    pictures = (figure_images if kind == "person" else animal_images)(3, SEED, SIDE)[0]
    with atomic_path(path) as beside:
        Image.fromarray(np.asarray(pictures[int(number) - 1])).save(beside, "PNG")
    return path


def adopt_example(session: Session, name: str) -> Upload:
    """An example as if it had been uploaded."""
    path = example(session, name)
    folder = session.uploads / new_identity()
    folder.mkdir()
    shutil.copy(path, folder / name)
    return session.adopt(folder, name)
