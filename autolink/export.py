"""Write the keypoint detector as an ONNX file: autolink export CHECKPOINT OUT.onnx."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from autolink import __version__
from autolink.errors import UserError, command
from autolink.files import atomic_path
from autolink.model import AutoLink
from autolink.pretrained import check_output

INPUT, OUTPUT = "images", "keypoints"


@dataclass(frozen=True)
class ExportConfig:
    """Write the detector of a stage one as an ONNX file.

    Input images, (B, 3, size, size) in [-1, 1]; output keypoints, (B, K, 2), (x, y) in [-1, 1]; any B.
    """

    checkpoint: tyro.conf.Positional[str]
    """A checkpoint folder of a stage one, the name of a bundled one or of a part of one, such as
    faces-transfer/stage_one, or hf:owner/name."""
    out: tyro.conf.Positional[Path]
    """The file to write, .onnx."""
    overwrite: bool = False
    """Replace the file where it exists."""


def export(model: AutoLink, out: Path) -> None:
    """Write the detector, whole or not at all; graph and configuration go along as metadata.

    Metadata of the file: `size`, `thickness` and `fit` as in `ModelConfig`, `edge_weights`, a JSON list of E numbers in
    the order of `autolink.edge_map.edge_pairs`, and `autolink`, the version.

    Raises:
        UserError: onnx or onnxscript is not installed.
    """
    try:
        import onnx  # noqa: F401  # the exporter tells of a missing one by a traceback
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the package {error.name} is missing; install it with pip install 'autolink-keypoints[onnx]'"
        ) from None
    size = model.config.size
    example = torch.zeros(2, 3, size, size)  # of a single picture, the exporter would take the batch for a constant
    program = torch.onnx.export(
        model.cpu().eval().detector, (example,), input_names=[INPUT], output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(
        {
            "autolink": __version__,
            "size": str(size),
            "thickness": str(model.config.thickness),
            "fit": model.config.fit,
            "edge_weights": json.dumps(model.edge_weights.tolist()),
        }
    )
    with atomic_path(out) as part:
        program.save(part, external_data=False)


def run(config: ExportConfig) -> None:
    """The command: load, write, say where."""
    check_output("OUT", config.out, config.overwrite, (".onnx",))
    model = AutoLink.from_pretrained(config.checkpoint)
    export(model, config.out)
    size = model.config.size
    print(
        f"{config.out}: {INPUT} (B, 3, {size}, {size}) in [-1, 1] -> {OUTPUT} (B, {model.config.keypoints}, 2), (x, y) "
        "in [-1, 1]"
    )


def main() -> None:
    """Entry point of `autolink export`."""
    command(lambda: run(tyro.cli(ExportConfig)))


if __name__ == "__main__":
    main()
