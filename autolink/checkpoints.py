"""Where a checkpoint is: a folder, the name of a bundled one, or `hf:owner/name` on the Hugging Face Hub."""

from abc import abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn
from typing_extensions import Self

from autolink.errors import UserError
from autolink.files import parse_json

KINDS = {
    "autolink": "a stage one (keypoints and graph)",
    "autolink-child": "a child of a nested stage one",
    "transfer": "a pose transfer",
    "gan": "a conditional GAN",
    "judge": "a judge of joints",
}
"""What a checkpoint can be, by the `model_type` of its config.json."""

HUB = "hf:"

_PACKAGE = Path(__file__).resolve().parent
_IN_CLONE = (_PACKAGE.parent / "train_autolink.py").is_file()
BUNDLED = _PACKAGE.parent / "checkpoints" if _IN_CLONE else _PACKAGE / "bundled"
"""The folder of the checkpoints that come with AutoLink."""


def kind_of(folder: Path) -> str:
    """The `model_type` in a checkpoint folder's config.json, empty if there is none."""
    return str(_values(folder).get("model_type", ""))


def stored(folder: Path) -> Path:
    """Where a checkpoint's weights are: in its folder, or in that of the bundled one that its config.json names.

    A stage one that comes with AutoLink by itself and as a part of another checkpoint is stored once.
    """
    same_as = _values(folder).get("same_as")
    return BUNDLED / same_as if isinstance(same_as, str) and same_as in bundled() else folder


def _values(folder: Path) -> dict[str, Any]:
    """What a checkpoint folder's config.json holds, nothing if there is none."""
    try:
        values = parse_json((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def bundled(kind: str = "") -> dict[str, Path]:
    """The checkpoints that come with AutoLink, of one kind or all: name -> folder.

    Raises:
        UserError: none is there; the installation is incomplete.
    """
    folders = {path.parent.name: path.parent for path in sorted(BUNDLED.glob("*/config.json"))}
    if not folders:
        raise UserError(f"the checkpoints that come with AutoLink are missing in {BUNDLED}; install it again")
    return {name: folder for name, folder in folders.items() if not kind or kind_of(folder) == kind}


def find_checkpoint(
    name: str | Path, *, revision: str | None = None, token: str | None = None, cache_dir: str | Path | None = None
) -> Path:
    """The folder of a checkpoint.

    Args:
        name: a folder; the name of a bundled checkpoint, or of a part of one such as `pets-gan/stage_one`; or
            `hf:owner/name` or `hf:owner/name@revision`, for which alone the Hugging Face Hub is asked.
        revision: of a Hub repository: branch, tag or commit.
        token: of the Hub; by default that of `hf auth login`.
        cache_dir: where the Hub's client keeps downloads.

    Raises:
        UserError: there is no such checkpoint.
    """
    if str(name).startswith(HUB):
        return _download(str(name), revision, token, cache_dir)
    folder, within = Path(name), BUNDLED / str(name)
    known = not folder.is_absolute() and ".." not in folder.parts and (within / "config.json").is_file()
    if folder.is_dir() and ((folder / "config.json").is_file() or not known):
        return stored(folder)
    if known:
        return stored(within)
    raise UserError(
        f"there is no checkpoint {name}: give a folder that holds config.json, {HUB}owner/name on the Hugging Face "
        f"Hub, or one that comes with AutoLink: {', '.join(bundled())}"
    )


def _download(name: str, revision: str | None, token: str | None, cache_dir: str | Path | None) -> Path:
    """The local copy of a Hub repository, `hf:owner/name[@revision]`."""
    repository, _, named = name.removeprefix(HUB).partition("@")
    if len(repository.split("/")) != 2 or not all(repository.split("/")):
        raise UserError(f"{name}: a repository of the Hub is given as {HUB}owner/name or {HUB}owner/name@revision")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, revision=revision or named or None, token=token, cache_dir=cache_dir,
                allow_patterns=["config.json", "README.md", "*.safetensors", "*/config.json", "*/*.safetensors"],
            )
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - the Hub's client raises many kinds, offline and online
        raise UserError(
            f"the Hub gave no repository {repository} ({type(error).__name__}); check the name, or download its "
            "files by hand and give their folder"
        ) from None


def check_kind(folder: Path, found: object, wanted: str) -> None:
    """Refuse a checkpoint of another kind.

    Raises:
        UserError: it names what the checkpoint is and, if it holds one of the kind wanted, where.
    """
    if found == wanted:
        return
    parts = [part for part in ("model", "stage_one") if kind_of(folder / part) == wanted]
    advice = f"; did you mean {folder / parts[0]}?" if parts else ""
    if not parts and BUNDLED.is_dir():
        advice = f"; of those that come with AutoLink, {', '.join(bundled(wanted))} would do"
    held = KINDS.get(str(found), "nothing that is known here")
    raise UserError(f"{folder} holds {held}, where {KINDS[wanted]} is wanted{advice}")


class Pretrained(nn.Module):
    """A model that is saved as a checkpoint folder and found again by `find_checkpoint`."""

    @classmethod
    @abstractmethod
    def from_folder(cls, folder: Path) -> Self:
        """Load a checkpoint folder, ready to use."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path, card: str = "", *, half: bool = False) -> None:
        """Write config.json, model.safetensors and, if there is none, the model card; `half` stores 16-bit weights."""

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, token: str | None = None,
        cache_dir: str | Path | None = None,
    ) -> Self:  # fmt: skip
        """Load a checkpoint, ready to use; arguments as in `find_checkpoint`.

        Raises:
            UserError: there is no such checkpoint, or it is damaged or of another kind.
        """
        return cls.from_folder(find_checkpoint(name, revision=revision, token=token, cache_dir=cache_dir))

    def push_to_hub(self, repository: str, *, token: str | None = None, private: bool = False, **commit: Any) -> None:
        """Publish as `owner/name` on the Hugging Face Hub.

        Args:
            repository: `owner/name`; made if it is not there.
            token: of the Hub; by default that of `hf auth login`.
            private: whether a new repository is.
            commit: passed to `HfApi.upload_folder`, such as commit_message or revision.
        """
        from huggingface_hub import HfApi

        with TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model")
            hub = HfApi(token=token)
            hub.create_repo(repository, exist_ok=True, private=private)
            hub.upload_folder(repo_id=repository, folder_path=Path(folder) / "model", **commit)
