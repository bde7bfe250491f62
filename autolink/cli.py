"""The command `autolink`: one table of sub-commands, each imported only when it is asked for."""

import difflib
import sys
from importlib import import_module
from typing import NamedTuple

from autolink import __version__
from autolink.errors import UsageError, command


class Subcommand(NamedTuple):
    """A module whose `main` is the command, and what it does."""

    module: str
    does: str


COMMANDS = {
    "demo": Subcommand("autolink.generation.demo", "the bundled models on embedded data, in a minute or two"),
    "train": Subcommand("autolink.train", "stage one: keypoints and a graph from pictures, without labels"),
    "pack": Subcommand("autolink.pack", "pack pictures and videos into tar shards, for data larger than memory"),
    "erase-colour": Subcommand("autolink.generation.erase_colour", "make a stage one whose keypoints tell no colour"),
    "regions": Subcommand("autolink.discovery", "find the regions that a stage one's children should look at"),
    "detect": Subcommand("autolink.detect", "find keypoints in pictures or a video and draw the graph"),
    "extract": Subcommand("autolink.generation.extract", "find keypoints in many videos, as a table"),
    "transfer": Subcommand("autolink.generation.transfer", "redraw the subject of one video in the motion of another"),
    "train-transfer": Subcommand("autolink.generation.train_transfer", "train a pose transfer on clips or pictures"),
    "train-local": Subcommand("autolink.generation.train_local", "train what redraws a child's region: lips, eyes"),
    "sample": Subcommand("autolink.generation.sample", "generate pictures of given structures"),
    "studio": Subcommand("autolink.studio.serve", "a page in the browser: drag keypoints, discover, transfer, train"),
    "train-gan": Subcommand("autolink.generation.train_gan", "train a GAN whose structure is the edge map"),
    "export": Subcommand("autolink.export", "write the keypoint detector as an ONNX file"),
    "convert": Subcommand("autolink.convert", "make a checkpoint of one of the authors'"),
    "eval fid": Subcommand("autolink.eval.fid", "FID, KID, precision and recall of two sets of pictures"),
    "eval lpips": Subcommand("autolink.eval.lpips", "LPIPS of pairs of pictures, or variety within a set"),
    "eval keypoints": Subcommand("autolink.eval.keypoints", "regression error of a stage one, by protocol"),
    "eval transfer": Subcommand("autolink.eval.transfer", "measure a pose transfer"),
    "eval gan": Subcommand("autolink.eval.gan", "measure a GAN"),
    "eval leak": Subcommand("autolink.eval.leak", "what a stage one's keypoints tell of colour and of background"),
    "eval report": Subcommand("autolink.eval.report", "measure checkpoints and write one report"),
    "eval prepare-judge": Subcommand("autolink.eval.prepare_judge", "fetch the networks of --judge mediapipe"),
    "eval judge": Subcommand("autolink.eval.judge", "train a judge of joints on annotated pictures"),
}


def usage() -> str:
    """What `autolink --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  autolink {name:{width}}  {one.does}" for name, one in COMMANDS.items()]
    return "\n".join(
        [
            f"AutoLink {__version__}: self-supervised keypoints, one graph, and what can be generated from them.",
            "",
            *lines,
            "",
            "autolink COMMAND --help explains a command. Examples:",
            "  autolink transfer --src my_video.mp4 --driver my_pose.mp4",
            "  autolink sample --grid grid.png",
        ]
    )


def run(arguments: list[str]) -> None:
    """Run the sub-command that the arguments name.

    Raises:
        UsageError: there is none of that name.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"autolink {__version__}")
        return
    words = 2 if arguments[0] == "eval" else 1
    name = " ".join(arguments[:words])
    if arguments[0] == "eval" and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print("\n".join(line for line in usage().splitlines() if line.startswith("  autolink eval")))
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise UsageError(f"autolink has no command {name}: {hint}")
    sys.argv = [f"autolink {name}", *arguments[words:]]
    import_module(COMMANDS[name].module).main()


def main() -> None:
    """Entry point of `autolink`."""
    command(lambda: run(sys.argv[1:]))


if __name__ == "__main__":
    main()
