"""What a report says of pose transfer, of the GAN and of the judge of joints."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from autolink.data.figures import JOINTS
from autolink.errors import UserError
from autolink.eval import gan, transfer
from autolink.eval.gan import GanEvalConfig
from autolink.eval.judge_data import figure_data, folder_data, measured
from autolink.eval.judge_model import Judge
from autolink.eval.reporting.content import Conditions, Figure, Picture, Section
from autolink.eval.reporting.inputs import Subject
from autolink.eval.transfer import LINES, SHEET_ROWS, TransferConfig
from autolink.generation.gan import Gan
from autolink.generation.translator import PoseTransfer

GROUPS = {"self": "Same person, other frames of the clip", "cross": "Driven by another person's motion"}

KEPT = "Driven by another person's motion: is the person kept?"

TRANSFER_HEADLINES = {
    "moving_l1", "ssim", "akd_percent_of_inter_ocular", "mouth_percent_of_inter_ocular",
    "joint_error_percent_of_side", "judge_own_error_percent_of_side", "joint_error_arms_percent_of_side",
}  # fmt: skip

EXPLAINED_BY = {
    "real_missing": "mkr",
    "judge_own_error": "joint_error",
    "arm_error": "joint_error",
    "flicker_over_real": "warping_error",
}
"""Which entry of the transfer's protocol explains a figure that has none by its own name."""


def measure_transfer(subject: Subject, clips: int, frames: int, judge: str, seed: int, device: torch.device) -> Section:
    """Everything about one pose transfer.

    Raises:
        UserError: there is nothing to measure on, or no judge.
    """
    model = PoseTransfer.from_pretrained(subject.folder).to(device)
    config = TransferConfig(str(subject.folder), subject.data, judge=judge, clips=clips, frames=frames, seed=seed)
    result, sheet = transfer.evaluate(model, config, device)
    section = Section(figures=_transfer_figures(result))
    rows = SHEET_ROWS[: round(sheet.shape[0] / sheet.shape[1] * min(result["clips"], transfer.SHEET_COLUMNS))]
    alt = f"A clip in each column; the rows show {', '.join(rows)}"
    section.pictures.append(Picture("transfers", "Transfers", alt, rows, sheet))
    return section


def _transfer_figures(result: dict[str, Any]) -> list[Figure]:
    samples = f"{result['frames_measured']} frames of {result['clips']} clips, {result['size_pixels']} px"
    judge = result["judge"]
    judged_by = f"{Path(judge['checkpoint']).name}, own error {judge['own_error_percent']:.2f} %" if judge else "none"
    figures = []
    for table, group in GROUPS.items():
        parent = ""
        for key, label, digits, better in LINES:
            name = (
                f"{parent.split(',')[0]}: {label.strip()}"
                if label.startswith(" ")
                else (label if "lite0" in label else label[0].upper() + label[1:])
            )
            parent = parent if label.startswith(" ") else name
            value = result[table].get(key)
            if value is None:
                continue
            copied = result[f"{table}_copy"].get(key)
            copied = None if copied == value and not better else copied  # of the real frames alone: no yardstick
            figures.append(
                Figure(
                    f"{table}.{key}", name, value,
                    Conditions(
                        result["data"], f"{result['protocol'][table]} {_explained(key, result['protocol'])}", samples,
                        _features(key), judged_by if _judged(key) else "none", result["seed"],
                    ), "", digits, better, group, result[table]["spread_over_clips"].get(key), "clips",
                    yardstick=copied, yardstick_name="" if copied is None else "copying the source",
                    headline=key in TRANSFER_HEADLINES,
                )
            )  # fmt: skip
    return figures + _appearance(result, samples, judged_by)


def _appearance(result: dict[str, Any], samples: str, judged_by: str) -> list[Figure]:
    """Whether the person is kept."""
    found = result["appearance"]
    protocol = f"Nearest of {found['people']} people: {result['protocol']['appearance']}"
    conditions = Conditions(result["data"], protocol, samples, "efficientnet-lite0", judged_by, result["seed"])
    return [
        Figure(
            "appearance.generated_percent", "Taken for the source's person, %", found["generated_percent"], conditions,
            "", 1, "higher", KEPT, yardstick=found["real_percent"], yardstick_name="real frames", headline=True,
        ),
        Figure(
            "appearance.generated_as_driver_percent", "Taken for the driver's person, %",
            found["generated_as_driver_percent"], conditions, "", 1, "lower", KEPT,
            yardstick=found["chance_percent"], yardstick_name="chance",
        ),
        Figure(
            "appearance.real_percent", "Real frames taken for their own person, %", found["real_percent"], conditions,
            "", 1, "", KEPT, yardstick=found["chance_percent"], yardstick_name="chance",
        ),
    ]  # fmt: skip


def _explained(key: str, protocol: dict[str, str]) -> str:
    """The sentence that says how a figure is measured."""
    alias = next((name for start, name in EXPLAINED_BY.items() if key.startswith(start)), key)
    text = next((text for name, text in protocol.items() if alias.startswith(name)), "")
    return f"{text[:1].upper()}{text[1:]}"


def _features(key: str) -> str:
    return {"efficientnet_lite0_distance": "efficientnet-lite0", "lpips": "AlexNet (LPIPS 0.1)"}.get(key, "none")


def _judged(key: str) -> bool:
    return any(part in key for part in ("akd", "mouth", "missing", "mkr", "joint", "judge", "arm_error"))


GAN_FIGURES = {
    "fid": ("FID", 2, "lower"), "kid": ("KID", 4, "lower"), "precision": ("Precision", 3, "higher"),
    "recall": ("Recall", 3, "higher"),
}  # fmt: skip


def measure_gan(
    subject: Subject, root: Path | None, count: int, judge: str, seed: int, device: torch.device
) -> Section:
    """Everything about one conditional GAN.

    Raises:
        UserError: there is nothing to measure on, or the data have other classes.
    """
    model = Gan.from_pretrained(subject.folder).to(device)
    config = GanEvalConfig(str(subject.folder), subject.data, root, judge=judge, count=count, seed=seed)
    result, sheet = gan.evaluate(model, config)
    section = Section(notes=list(result["warnings"]))
    for group, found in result["figures"].items():
        section.figures += _gan_figures(group, found, result)
    made = tuple(f"structure {n + 1}" for n in range(gan.SHEET_ROWS))
    rows = (*made, "generated", "nearest real pictures")
    alt = (
        "A structure in each row, its real picture and edge map first, then one appearance a column; the last two rows "
        "show generated pictures and the real pictures nearest to them"
    )
    section.pictures.append(
        Picture(
            "generated",
            "Generated pictures: the real one and its edge map, then an appearance in each column",
            alt,
            rows,
            sheet,
        )
    )
    return section


def _gan_figures(group: str, found: dict[str, Any], result: dict[str, Any]) -> list[Figure]:
    """Figures of all pictures or of one class."""
    protocol, table = result["protocol"], "All pictures" if group == "all" else f"Class {group}"

    def conditions(part: str, features: str = "none", judge: str = "none") -> Conditions:
        samples = f"{found['pictures']:,} generated and as many real pictures, {result['size_pixels']} px"
        text = f"{protocol['pictures']} {protocol.get(part, '')}"
        return Conditions(result["data"], text, samples, features, judge, result["seed"])

    figures = []
    for name in result["features"]:
        biased = name == gan.TRAINED_AGAINST
        for key, (label, digits, better) in GAN_FIGURES.items():
            if f"{key}[{name}]" not in found:
                continue
            part = key if key in protocol else "precision_recall"
            spread = found.get(f"kid_spread[{name}]") if key == "kid" else None
            figures.append(
                Figure(
                    f"{group}.{key}[{name}]", f"{label}[{name}{', biased' if biased else ''}]", found[f"{key}[{name}]"],
                    conditions(part, name), "", digits, better, table, spread, "subsets" if spread is not None else "",
                    headline=group == "all" and name == result["features"][0],
                )
            )  # fmt: skip
        if right := found.get(f"right_class[{name}]"):
            figures.append(
                Figure(
                    f"{group}.right_class[{name}]", f"Right class[{name}{', biased' if biased else ''}], %",
                    right["generated"], conditions("right_class", name), "", 1, "higher", table,
                    yardstick=right["real"], yardstick_name="real pictures",
                    headline=group == "all" and name == result["features"][0],
                )
            )  # fmt: skip
    for key, values in found.items():
        if key.startswith("structure_") and values:
            who = "its own stage one, biased" if "_own" in key else "another stage one"
            held_out = ", held-out pictures" if key.endswith("held_out") else ""
            figures.append(
                Figure(
                    f"{group}.{key}", f"Structure error by {who}{held_out}, % of side", values["error"],
                    conditions("structure", judge=who), "", 2, "lower", table, yardstick=values["random_real"],
                    yardstick_name="another real picture", headline="_judge" in key,
                )
            )  # fmt: skip
            if key == "structure_judge" and "foretold" in values:
                figures.append(
                    Figure(
                        f"{group}.foretold", "Structure error: what is foretold of the judge, % of side",
                        values["foretold"], conditions("structure", judge=who), "", 2, "", table,
                        headline=group == "all",
                    )
                )  # fmt: skip
    return figures + _variety_and_copies(group, table, found, conditions("variety", "efficientnet-lite0"),
                                         conditions("copying", result["features"][0]))  # fmt: skip


def _variety_and_copies(
    group: str, table: str, found: dict[str, Any], varied: Conditions, copied: Conditions
) -> list[Figure]:
    figures = []
    if found.get("variety"):
        figures.append(
            Figure(
                f"{group}.variety", "Variety at fixed structure", found["variety"]["generated"], varied, "", 3, "",
                table, yardstick=found["variety"]["real"], yardstick_name="real pictures", headline=group == "all",
            )
        )  # fmt: skip
    if found.get("copying"):
        figures.append(
            Figure(
                f"{group}.copies_percent", "Copies of training pictures, %", found["copying"]["copies_percent"], copied,
                "", 1, "lower", table, yardstick=1.0, yardstick_name="chance", headline=group == "all",
            )
        )  # fmt: skip
    return figures


def measure_judge(subject: Subject, seed: int, device: torch.device) -> Section:
    """The own error of a judge of joints, on people that taught none.

    Raises:
        UserError: the data have no landmarks, or others.
    """
    judge = Judge.from_pretrained(subject.folder).to(device)
    if subject.data == "figures":
        data = figure_data(judge.config.size)
    else:
        data = folder_data(Path(subject.data), judge.config.size, judge.config.fit)
    if data.truth.landmarks.shape[1] != judge.config.joints:
        raise UserError(
            f"--data {subject.data} does not fit {subject.name}: it has {data.truth.landmarks.shape[1]} landmarks, "
            f"the judge knows {judge.config.joints}"
        )
    config, distances = measured(judge, data)
    unit = f"% of the {config.own_error_unit}"
    conditions = Conditions(
        subject.data, "mean distance of the judge's joints from the true ones inside the picture",
        f"{len(data.images):,} pictures of people that taught none", seed=seed,
    )  # fmt: skip
    median, high = np.nanpercentile(distances, [50, 95])
    section = Section()
    for key, name, value in (
        ("own_error", "Own error", config.own_error), ("median", "Median", float(median)),
        ("percentile_95", "95th percentile", float(high)),
    ):  # fmt: skip
        section.figures.append(
            Figure(
                key, name, value, conditions, unit, 2, "lower", "Distance from the truth", headline=key == "own_error"
            )
        )
    names = JOINTS if subject.data == "figures" else tuple(f"landmark {n}" for n in range(config.joints))
    section.landmarks = [
        {
            "landmark": n,
            "name": name,
            "error": float(np.nanmean(distances[:, n])),
            "mean_pose_error": None,
            "unit": unit,
        }
        for n, name in enumerate(names)
    ]
    return section
