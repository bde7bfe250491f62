"""Published sets without landmarks: hands, horses and zebras, flowers, animal faces, talking people."""

from collections.abc import Callable
from pathlib import Path

from autolink.data.listing import Listing, find, pictures, read_mat, without_landmarks
from autolink.errors import UserError


def read_hands(root: Path) -> Listing:
    """11k Hands; all are trained on."""
    return without_landmarks(pictures(root, "Hands" if (root / "Hands").is_dir() else "."))


def read_horse2zebra(kind: str) -> Callable[[Path], Listing]:
    """One side, A or B, of horse2zebra."""
    return lambda root: without_landmarks(pictures(root, f"train{kind}"), pictures(root, f"test{kind}"))


def read_flowers(root: Path) -> Listing:
    """Oxford 102 Flowers; as the authors do, its large test part is trained on and its train part held out."""
    table, folder = find(root, "setid.mat"), find(root, "jpg").name
    train, test = (
        [f"{folder}/image_{int(number):05}.jpg" for number in read_mat(table, name).ravel()]
        for name in ("tstid", "trnid")
    )
    return without_landmarks(train, test)


def read_afhq(kind: str) -> Callable[[Path], Listing]:
    """Cats, dogs or wild animals of AFHQ; the first version calls its test part val."""

    def read(root: Path) -> Listing:
        test = find(root, kind, ("test", "val")).relative_to(root).as_posix()
        return without_landmarks(pictures(root, f"train/{kind}"), pictures(root, test))

    return read


def _frames(root: Path, side: str) -> list[str]:
    try:
        return pictures(root, side)
    except UserError:
        if next((root / side).glob("*.mp4"), None) is None:
            raise
        raise UserError(f"{root / side} holds mp4 files; write their frames as pictures, a folder a clip") from None


def read_voxceleb(root: Path) -> Listing:
    """Frames of VoxCeleb, a folder of pictures for each clip, named after the person up to the first #."""
    parts = [_frames(root, side) for side in ("train", "test")]
    clips = [Path(name).parts[1] for part in parts for name in part]
    return without_landmarks(parts[0], parts[1], [clip.split("#")[0] for clip in clips])
