"""Whether a face speaks and blinks as its driver does, keeps its shape and stays the same person, clip by clip."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autolink.eval.clips import Clip
from autolink.eval.mediapipe import Face, FaceJudge
from autolink.eval.metrics import optical_flow, warping_error
from autolink.eval.results import Figure, Metric

Array = NDArray[Any]

HARDLY = 0.02
"""Standard deviation of a driver's opening below which it hardly moves, so that gain and correlation mean nothing."""
FEWEST = 5
"""Frames in which driver and result must both show a face."""
IDENTIFIED = 4
"""Frames of a clip, spread over it, whose person is compared: an embedding takes as long as ten meshes."""
SAME_PERSON = 0.6
"""Distance of dlib's embeddings below which two pictures show one person (King 2017)."""
NETWORKS = "MediaPipe 0.10.21, face mesh and iris"
PERSON = "dlib's face recognition network"

Row = dict[str, float | str | None]
"""What was measured of one clip; None where that could not be."""


class Following(NamedTuple):
    """How an opening follows the driver's."""

    gain: float | None
    """Slope of the result's opening on the driver's, each about its own mean; None if the driver hardly moves."""
    correlation: float | None
    """0 for a result that stands still."""
    deviation: float
    """Of the driver's opening, over the frames that count."""


def following(driver: Array, result: Array) -> Following:
    """Openings of the driver and of what was made of them, (T,) each, NaN where no face was seen."""
    seen = np.isfinite(driver) & np.isfinite(result)
    if seen.sum() < FEWEST:
        return Following(None, None, float(np.std(driver[seen])) if seen.any() else 0.0)
    x, y = driver[seen] - driver[seen].mean(), result[seen] - result[seen].mean()
    deviation = float(x.std())
    if deviation < HARDLY:
        return Following(None, None, deviation)
    across, own = float(x @ y), float(np.sqrt((x @ x) * (y @ y)))
    return Following(across / float(x @ x), across / own if own > 1e-12 else 0.0, deviation)


def mesh_distance(here: Face, there: Face) -> float:
    """Mean distance of two meshes in per cent of the second one's inter-ocular distance."""
    return float(np.linalg.norm(here.mesh - there.mesh, axis=1).mean()) / there.inter_ocular * 100


def flicker(pairs: Array) -> float:
    """Mean warping error of pairs of frames (T, 2, H, W, 3), 8-bit, along the flow between them; 0 if none is known."""
    errors = np.array([warping_error(first, second, *optical_flow(first, second)) for first, second in pairs])
    return float(errors[np.isfinite(errors)].mean()) if np.isfinite(errors).any() else 0.0


def mean_or_none(values: list[float]) -> float | None:
    """Of what is there."""
    return float(np.mean(values)) if values else None


class Look:
    """Pictures (T, H, W, 3), 8-bit RGB, and the faces in them; one picture stands for as many as are asked for."""

    def __init__(self, judge: FaceJudge, pictures: Array) -> None:
        self.judge, self.pictures = judge, pictures
        self.faces = [judge.look(picture) for picture in pictures]
        self._known: dict[int, Array] = {}

    def face(self, number: int) -> Face | None:
        """The face in one of them."""
        return self.faces[number % len(self.faces)]

    def openings(self, part: str) -> Array:
        """Of `mouth` or `eyes`: (T,), NaN where no face was seen."""
        return np.array([np.nan if face is None else getattr(face, part) for face in self.faces])

    def embedding(self, number: int) -> Array:
        """Who is in one of them, which shows a face; computed once."""
        number %= len(self.faces)
        if number not in self._known:
            face = self.faces[number]
            assert face is not None
            self._known[number] = self.judge.embedding(np.ascontiguousarray(self.pictures[number]), face)
        return self._known[number]


class Expressions:
    """The measurements of faces, a row a transfer."""

    def __init__(self, judge: FaceJudge) -> None:
        self.judge = judge
        self.rows: dict[str, list[Row]] = {"self": [], "cross": []}
        self._drivers: dict[int, tuple[Clip, Look, float]] = {}

    def add(self, table: str, clip: Clip, driver: Clip, images: Array) -> None:
        """One transfer more: a clip's first frame in a driver's motion, (T, 2, H, W, 3), 8-bit.

        In the table `self` the clip drives itself, so that its frames are what should come out.
        """
        if id(driver) not in self._drivers:
            self._drivers[id(driver)] = driver, Look(self.judge, driver.frames[:, 0]), flicker(driver.frames)
        _, real, real_flicker = self._drivers[id(driver)]
        made, source = Look(self.judge, images[:, 0]), Look(self.judge, clip.source[None])
        shown = [n for n, face in enumerate(real.faces) if face]
        row: Row = {
            "source": clip.name, "driver": driver.name, "frames": len(images),
            "lost_percent": mean_or_none([100.0 * (made.face(n) is None) for n in shown]),
            "flicker_over_real": flicker(images) / real_flicker if real_flicker else None,
        }  # fmt: skip
        for part in ("mouth", "eyes"):
            found = following(real.openings(part), made.openings(part))
            row |= {f"{part}_{name}": value for name, value in found._asdict().items()}
        if table == "self":
            row["mesh_distance"] = mean_or_none(mesh_distances(made, real))
            row["copy_mesh_distance"] = mean_or_none(mesh_distances(source, real))
        wanted, other = (real, source) if table == "self" else (source, real)
        self.rows[table].append(row | person_distances(made, wanted, other, len(images)))


def mesh_distances(look: Look, real: Look) -> list[float]:
    """Of all frames that show a face on both sides, in per cent of the real one's inter-ocular distance."""
    pairs = [(look.face(n), face) for n, face in enumerate(real.faces)]
    return [mesh_distance(here, there) for here, there in pairs if here and there]


def person_distances(made: Look, wanted: Look, other: Look, frames: int) -> Row:
    """AED of the result from who it should be, and of the other from that one."""
    chosen = np.unique(np.linspace(0, frames - 1, IDENTIFIED).round().astype(int)).tolist()
    whole = [n for n in chosen if made.face(n) and wanted.face(n) and other.face(n)]
    apart, beside = (
        [float(np.linalg.norm(look.embedding(n) - wanted.embedding(n))) for n in whole] for look in (made, other)
    )
    same = [100.0 * (distance < SAME_PERSON) for distance in apart]
    return {"aed": mean_or_none(apart), "beside_aed": mean_or_none(beside), "same_percent": mean_or_none(same)}


GAIN = (
    "Slope of the result's opening on the driver's over a clip, each about its own mean, averaged over clips: 0 where "
    "nothing moves, 1 as the driver. Openings:"
)
OPENINGS = {
    "mouth": "the inner lips' over the inter-ocular distance.",
    "eyes": "the lids' over the width of the eye, mean of both eyes.",
}
AED = (
    "Average Euclidean distance (Siarohin et al. 2019, there of another network) of dlib's embeddings of the result "
    f"and {{}}, {IDENTIFIED} frames a clip; the same person is mostly below {SAME_PERSON}."
)
WHO = {"self": "the real frame", "cross": "the source"}
METRICS = (
    *(
        Metric(f"{part}_{key}", f"{part.capitalize()}, {name}", "", 2, "higher", f"{how} {OPENINGS[part]}", NETWORKS)
        for part in ("mouth", "eyes")
        for key, name, how in (
            ("gain", "gain (1 as the driver)", GAIN),
            ("correlation", "correlation with the driver", "Of the result's opening with the driver's over a clip, "
             "averaged over clips. Openings:"),
        )
    ),
    Metric(
        "mesh_distance", "AKD of the face mesh", "% of inter-ocular distance", 2, "lower",
        "Mean distance of the 468 points of the mesh on the result from those on the real frame.", NETWORKS,
        beside="copy_mesh_distance",
    ),
    Metric("aed", "AED", "", 3, "lower", AED, PERSON, beside="beside_aed"),
    Metric("same_percent", f"Same person, AED below {SAME_PERSON}", "%", 1, "higher", AED, PERSON),
    Metric(
        "flicker_over_real", "Flicker over the driver's", "", 2, "lower",
        "Mean absolute difference of a frame from the one before it, moved along the optical flow between them (DIS at "
        "256 px), of the result over that of the driver; clips averaged. Blur lowers it, too.",
    ),
    Metric(
        "lost_percent", "Frames without a face", "%", 1, "lower",
        "Share of the driver's frames that show a face in which the result shows none.", NETWORKS,
    ),
)  # fmt: skip


def face_figures(rows: dict[str, list[Row]], made: Callable[..., Figure], path: str, size: int) -> Iterator[Figure]:
    """The rows as figures: means over clips, and how many of them were left out.

    Args:
        rows: by table, `self` and `cross`.
        made: makes a figure of what differs from one to another.
        path: how the pictures were made.
        size: side of the clips in pixels.
    """
    for table, group in (("self", "Same person, face"), ("cross", "Another person's motion, face")):
        for metric in METRICS:
            values = column(rows[table], metric.key)
            if not values and not any(metric.key in row for row in rows[table]):
                continue
            most = max(int(row["frames"] or 0) for row in rows[table])
            left_out = len(rows[table]) - len(values)
            why = f", {left_out} left out" if left_out else ""
            if left_out and metric.key.endswith(("gain", "correlation")):
                why += ": their driver hardly moves, or no face was found"
            beside = column(rows[table], metric.beside)
            yield made(
                f"face.{table}.{metric.key}", metric.name, mean_or_none(values), count=len(values),
                samples=f"clips of {most} frames at most, {size} px{why}", unit=metric.unit, digits=metric.digits,
                better=metric.better, group=group, headline=True,
                protocol=f"{metric.protocol.format(WHO[table])} {path}", spread_over="clips",
                spread=float(np.std(values)) if values else None, baseline=mean_or_none(beside),
                baseline_name="" if not beside else "copying the source" if table == "self" else "the driver",
                measured_by=metric.measured_by,
            )  # fmt: skip


def shows_faces(rows: dict[str, list[Row]]) -> bool:
    """Whether any driver shows a face."""
    return any(row["lost_percent"] is not None for table in rows.values() for row in table)


def column(rows: list[Row], key: str) -> list[float]:
    """What was measured of that kind."""
    return [float(value) for row in rows if (value := row.get(key)) is not None]


def row_notes(rows: dict[str, list[Row]]) -> Iterator[str]:
    """Each transfer in a line."""
    for row in (*rows.get("self", ()), *rows.get("cross", ())):
        told = [
            f"{part} gain {row[f'{part}_gain']:.2f}, correlation {row[f'{part}_correlation']:.2f}"
            if row[f"{part}_gain"] is not None
            else f"{part} left out, deviation {row[f'{part}_deviation']:.3f}"
            for part in OPENINGS
        ]
        kinds = (("mesh_distance", "AKD", ".2f"), ("aed", "AED", ".3f"), ("flicker_over_real", "flicker", ".2f"),
                 ("lost_percent", "lost", ".0f"))  # fmt: skip
        told += [f"{name} {row[key]:{form}}" for key, name, form in kinds if row.get(key) is not None]
        yield f"{row['source']} driven by {row['driver']}: {'; '.join(told)}"
