import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autolink.data.figures import figure_clip, figure_images
from autolink.eval.results import Figure, from_json

TINY = [
    "--size", "32", "--keypoints", "4", "--detector-channels", "4", "8", "8", "--decoder-channels", "4", "8", "8",
    "--batch", "4", "--steps", "6", "--feature-size", "32", "--mask-blocks", "8", "--log-every", "2", "--threads", "1",
]  # fmt: skip
"""Options that make a training run of seconds."""

TINY_TRANSFER = [
    "--size", "32", "--bones", "4", "--channels", "4", "8", "8", "--motion-size", "16", "--motion-channels", "8", "8",
    "--batch", "4", "--steps", "6", "--feature-size", "32", "--log-every", "2", "--threads", "1",
]  # fmt: skip
"""The same for pose transfer."""

TINY_GAN = [
    "--channels", "8", "8", "8", "4", "--edge-size", "8", "--edge-channels", "4", "--latent", "6",
    "--batch", "4", "--steps", "4", "--feature-size", "32", "--log-every", "2", "--threads", "1",
]  # fmt: skip
"""The same for the GAN."""


def figures_in(path: Path) -> dict[str, Figure]:
    """The figures by their keys in what a command wrote with --json."""
    return {values["key"]: from_json(Figure, json.dumps(values)) for values in json.loads(path.read_text())["figures"]}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 annotated pictures of six people, not square."""
    return annotated_pictures(tmp_path_factory.mktemp("pictures"), 24)


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with enough pictures to fit landmarks to sixteen keypoints."""
    return annotated_pictures(tmp_path_factory.mktemp("many_pictures"), 60)


def annotated_pictures(folder: Path, count: int) -> Path:
    (folder / "images").mkdir()
    images, joints = figure_images(count, seed=5, size=48)
    header = "image,identity,split," + ",".join(f"x{n},y{n}" for n in range(joints.shape[1]))
    rows = [header]
    for n, (image, points) in enumerate(zip(images, joints, strict=True)):
        Image.fromarray(image).resize((60, 40)).save(folder / "images" / f"{n:02}.png")
        pixels = (points + 1) / 2 * [59, 39]
        rows.append(
            f"{n:02}.png,p{n % 6},{'test' if n % 6 < 2 else 'train'}," + ",".join(f"{v:.2f}" for v in pixels.flat)
        )
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames each of six people, of whom two are for testing, with 68 points as faces have them."""
    folder = tmp_path_factory.mktemp("scenes")
    rows = ["image,identity,split," + ",".join(f"x{n},y{n}" for n in range(68))]
    for person in range(6):
        frames, joints = figure_clip(10, person, 48)
        for n, (frame, points) in enumerate(zip(frames, joints, strict=True)):
            Image.fromarray(frame).save(folder / f"{person}{n}.png")
            pixels = np.resize((points + 1) / 2 * 47, (68, 2)) + np.arange(68)[:, None] % 7
            split = "test" if person < 2 else "train"
            rows.append(f"{person}{n}.png,p{person},{split}," + ",".join(f"{v:.2f}" for v in pixels.flat))
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve rendered cats and as many dogs, each in a folder of its own."""
    from autolink.data.animals import animal_images

    folder = tmp_path_factory.mktemp("animals")
    for n, image in enumerate(animal_images(24, seed=0, size=48)[0]):
        path = folder / ("cat", "dog")[n % 2] / f"{n:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="session")
def tiny_gan(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """An untrained GAN of 32 px and two classes, of the tiny checkpoint's graph."""
    import torch

    from autolink import AutoLink
    from autolink.generation.gan import Gan
    from autolink.generation.generator import GanConfig, Generator

    torch.manual_seed(0)
    stage_one = AutoLink.from_pretrained(tiny_checkpoint)
    config = GanConfig(
        keypoints=5, channels=(8, 8, 8, 4), latent=6, edge_size=8, edge_channels=4, classes=("cat", "dog"),
        encoder=True,
    )  # fmt: skip
    generator = Generator(config)
    generator.graph.copy_(stage_one.edge_weights.detach())
    generator.structures.uniform_(-0.8, 0.8)
    generator.structure_classes[1::2] = 1
    assert generator.encoder
    generator.encoder.mean[:] = torch.tensor([[-0.5], [0.5]])
    folder = tmp_path_factory.mktemp("gan") / "tiny"
    Gan(stage_one, generator).save_pretrained(folder)
    return folder


@pytest.fixture
def fresh_accelerator() -> None:
    """Forget the process-wide state that an earlier run in this process left."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of 32 px and five keypoints."""
    import torch

    from autolink import AutoLink, ModelConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    config = ModelConfig(keypoints=5, size=32, detector_channels=(4, 8, 8), decoder_channels=(4, 8, 8))
    AutoLink(config).save_pretrained(folder)
    return folder


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with a given exit code; what it said, one line without a traceback."""
    from autolink.errors import command

    def run(code: int, main: Callable[[], None]) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command(main)
        said = capsys.readouterr().err
        assert stop.value.code == code, said
        assert "Traceback" not in said
        return said

    return run


def array(path: Path) -> np.ndarray:
    """A picture file as an array."""
    return np.asarray(Image.open(path))
