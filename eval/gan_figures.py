"""The measurements of a GAN as figures: names, units, how each is measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from autolink.eval.feature_networks import Extractor, Features
from autolink.eval.features import features_of
from autolink.eval.gan_measures import (
    Pictures,
    RightClass,
    StructureErrors,
    another_of_the_class,
    copying,
    distribution,
    right_class,
)
from autolink.eval.leak_measures import explained
from autolink.eval.results import Better, Figure
from autolink.relight import centre_colours

TRAINED_AGAINST: Features = "efficientnet-lite0"
"""The network whose features the discriminator sees: figures by it flatter the GAN."""

PICTURES = (
    "One picture for the structure and class of each real picture (evenly chosen where --count is less), rounded to 8 "
    "bits. Real pictures are all of --data at the GAN's size (or --size, both resized to it), training pictures "
    "included. "
)
BIASED = f" The discriminator was trained on {TRAINED_AGAINST} (other layers), so that it flatters the GAN."

JACKKNIFE = (
    "95 % interval by the delete-d jackknife (Shao and Wu 1989) over 50 random halves (KID: of at most 1,000 pictures)."
)
DISTRIBUTION: dict[str, tuple[str, int, Better, str]] = {
    "fid": ("FID", 2, "lower", "Fréchet distance of Gaussians fitted to the features (clean-fid's resizing)."),
    "kid": ("KID", 4, "lower", f"Squared MMD with a cubic kernel on the features, mean over subsets. {JACKKNIFE}"),
    "mind": (
        "MIND",
        2,
        "lower",
        "Monge Inception Distance (Berthet et al. 2026): the squared sliced Wasserstein distance of the features, "
        f"1,000 directions, times three times their number. It falls with the number of pictures. {JACKKNIFE}",
    ),
    "precision": ("Precision", 3, "higher", "Kynkäänniemi et al. 2019, third neighbours, on the features."),
    "recall": ("Recall", 3, "higher", "Kynkäänniemi et al. 2019, third neighbours, on the features."),
}
RIGHT_CLASS = (
    "Share of generated pictures that a linear classifier of the features (a ridge fitted on the real pictures) takes "
    "for the class asked for; real pictures are told by one fitted on the other nine tenths."
)
STRUCTURE = (
    "Mean distance of a stage one's keypoints on the generated picture from those on the real picture whose structure "
    "was asked for. The judge is a stage one of another seed that no loss ever saw; the GAN's own was part of the "
    "loss. Another real picture is one of the same class."
)
REPEATED = (
    "The same of the real picture itself in another light and shifted by up to 1.3 % of the side, the shift undone."
)
EXPECTED = (
    "The same of keypoints expected by least squares from those asked for and the class, each half of the pictures "
    "fitted on the other: how far our keypoints predict the judge's, and so about what another picture of one "
    "structure scores."
)
VARIETY = (
    "Distance (stage one's perceptual distance) between pictures of one structure and class but other noise; between "
    "two real pictures of one class."
)
LEAK = (
    "R2 of a ridge, within classes, ten-fold cross-validated, on CIE Lab's lightness L, or colour (a, b), the mean "
    "over the central square of half the side; 95 % interval by bootstrap over pictures. 0: nothing is told. "
)
LEAK_OF_KEYPOINTS = LEAK + "From the keypoints that stage one finds on real pictures to the colour of those."
LEAK_OF_GENERATOR = LEAK + (
    "From the real picture whose structure was asked for to the one picture generated of it with random appearance. "
    "The baseline is the same to another real picture of its class."
)
COPYING = (
    "Distance of generated pictures to the nearest real one in the features, over the median distance of real pictures "
    "to theirs; copies are nearer than 99 % of the real ones, 1 % being chance."
)


@dataclass(frozen=True)
class Material:
    """What is compared."""

    real: Pictures
    fake: Pictures
    keypoints: NDArray[np.float32]
    """(N, K, 2), of the real pictures."""
    asked: NDArray[np.float32]
    """(N, K, 2), the same as they are asked for."""
    classes: NDArray[np.int64]
    test: NDArray[np.bool_]
    """(N,), held-out pictures."""


class FeatureSets(NamedTuple):
    """Real and generated pictures as a feature network sees them, (N, D) each."""

    name: Features
    real: NDArray[np.float32]
    fake: NDArray[np.float32]
    right: RightClass | None
    """None where there is one class only."""

    @classmethod
    def of(cls, extractor: Extractor, material: "Material", seed: int) -> Self:
        """The features of what is compared."""
        real, fake = (features_of(list(side), extractor) for side in (material.real, material.fake))
        several = len(np.unique(material.classes)) > 1
        right = right_class(fake, real, material.classes, seed) if several else None
        return cls(extractor.name, real, fake, right)


@dataclass(frozen=True)
class FigureMaker:
    """Makes the figures of all pictures or of one class."""

    name: str
    """all, or the class."""
    data: str
    count: int
    samples: str
    seed: int
    pictures: str = PICTURES
    """What the pictures are: how every protocol begins."""

    def __call__(self, key: str, label: str, value: float, protocol: str, **options: Any) -> Figure:
        """A figure; one network's figures flatter the GAN and say so."""
        if options.get("measured_by") == TRAINED_AGAINST and "[" in label:
            label, protocol = label.replace("]", ", biased]"), protocol + BIASED
        group = "All pictures" if self.name == "all" else f"Class {self.name}"
        known: dict[str, Any] = {"count": self.count, "samples": self.samples}
        return Figure(
            f"{self.name}.{key}", label, value, self.data, protocol=self.pictures + protocol, group=group,
            seed=self.seed, **known | options,
        )  # fmt: skip


def groups(
    classes: NDArray[np.int64], names: tuple[str, ...], made: FigureMaker
) -> Iterator[tuple[NDArray[np.bool_], FigureMaker]]:
    """Which pictures (N,) are in all, and in each class where there are several; and what makes figures of them."""
    rows = {"all": np.ones(len(classes), bool)}
    if len(names) > 1:
        rows |= {name: classes == n for n, name in enumerate(names)}
    for name, chosen in rows.items():
        if chosen.any():
            yield chosen, replace(made, name=name, count=int(chosen.sum()))


def feature_figures(
    made: FigureMaker, sets: FeatureSets, material: Material, rows: NDArray[np.bool_], first: bool
) -> Iterator[Figure]:
    """How far generated pictures are from real ones as a set, and whether they are of the right class."""
    name, headline = sets.name, made.name == "all" and first
    found = distribution(sets.real[rows], sets.fake[rows], made.seed)
    for key, (label, digits, better, protocol) in DISTRIBUTION.items():
        if key in found:
            value, interval = found[key]
            yield made(
                f"{key}[{name}]", f"{label}[{name}]", value, protocol, digits=digits, better=better,
                measured_by=name, headline=headline, interval_95=interval,
            )  # fmt: skip
    if sets.right:
        right, real = (float(side[rows].mean() * 100) for side in sets.right)
        yield made(
            f"right_class[{name}]", f"Right class[{name}]", right, RIGHT_CLASS, unit="%", digits=1, better="higher",
            measured_by=name, baseline=real, baseline_name="real pictures", headline=headline,
        )  # fmt: skip


def structure_figures(
    made: FigureMaker, who: str, found: StructureErrors, rows: NDArray[np.bool_], held_out: bool = False
) -> Iterator[Figure]:
    """How well generated pictures follow the structure, in the eyes of a judge or of the GAN's own stage one."""
    if not rows.any():
        return
    key = f"structure_{who}" + ("_held_out" if held_out else "")
    label = "Structure error" + (", held-out pictures" if held_out else "")
    by = "another stage one" if who == "judge" else "its own stage one, biased"
    options: dict[str, Any] = {"unit": "% of side", "measured_by": by, "count": int(rows.sum())}
    headline = {"headline": who == "judge" and made.name == "all"}
    yield made(
        key, label, float(found.error[rows].mean()), STRUCTURE, better="lower", **options, **headline,
        baseline=float(found.random_real[rows].mean()), baseline_name="another real picture",
    )  # fmt: skip
    repeated = float(found.repeated[rows].mean())
    yield made(f"{key}_repeated", f"{label}, the same picture again", repeated, f"{STRUCTURE} {REPEATED}", **options)
    if who == "judge" and found.expected is not None:
        expected = float(found.expected[rows].mean())
        yield made(
            f"{key}_expected", f"{label}, expected by least squares", expected, f"{STRUCTURE} {EXPECTED}", **options,
            headline=made.name == "all" and not held_out,
        )  # fmt: skip


def variety_figure(made: FigureMaker, generated: float, real: float) -> Figure:
    """How much pictures of one structure differ."""
    return made(
        "variety", "Variety at fixed structure", generated, VARIETY, digits=3, measured_by="efficientnet-lite0",
        baseline=real, baseline_name="real pictures", headline=True,
    )  # fmt: skip


COLOURS = {"lightness": slice(0, 1), "colour": slice(1, 3)}
"""Parts of CIE Lab."""


def keypoint_leak_figures(
    made: FigureMaker, keypoints: NDArray[np.floating], pictures: Pictures, classes: NDArray[np.int64]
) -> Iterator[Figure]:
    """How much keypoints (N, K, 2) tell of the colour of their pictures; none where there are too few."""
    lab, points = centre_colours(pictures), keypoints.reshape(len(keypoints), -1)
    for name, part in COLOURS.items():
        if found := explained(points, lab[:, part], classes, made.seed):
            yield made(
                f"leak_keypoints_{name}", f"Leak, keypoints -> {name}, R2", found.r2, LEAK_OF_KEYPOINTS, digits=3,
                better="lower", interval_95=found.interval_95, headline=made.name == "all",
            )  # fmt: skip


def generator_leak_figures(
    made: FigureMaker, material: Material, rows: NDArray[np.bool_], held_out: bool = False
) -> Iterator[Figure]:
    """How much the colour of a structure's picture tells of what is generated from the structure."""
    real, fake, classes = material.real[rows], material.fake[rows], material.classes[rows]
    if not len(real):
        return
    source, drawn = centre_colours(real), centre_colours(fake)
    other = another_of_the_class(classes, np.random.default_rng(made.seed))
    key, where = ("_held_out", ", held-out pictures") if held_out else ("", "")
    for name, part in COLOURS.items():
        found = explained(source, drawn[:, part], classes, made.seed)
        chance = explained(source, source[other][:, part], classes, made.seed)
        if found and chance:
            yield made(
                f"leak_{name}{key}", f"Leak, source picture -> {name}, R2{where}", found.r2, LEAK_OF_GENERATOR,
                digits=3, better="lower", interval_95=found.interval_95, baseline=chance.r2, count=len(real),
                baseline_name="another real picture", headline=made.name == "all" and not held_out,
            )  # fmt: skip


def copying_figures(made: FigureMaker, sets: FeatureSets, rows: NDArray[np.bool_]) -> Iterator[Figure]:
    """Whether generated pictures are copies of training pictures."""
    found = copying(sets.fake[rows], sets.real[rows])
    yield made(
        "copies_percent", "Copies of training pictures", found["copies_percent"], COPYING, unit="%", digits=1,
        better="lower", measured_by=sets.name, baseline=1.0, baseline_name="chance", headline=made.name == "all",
    )  # fmt: skip
    distance = found["median_distance_over_reals"]
    yield made("nearest_real", "Distance to nearest real, over reals'", distance, COPYING, measured_by=sets.name)
