import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils._paths import filter_repo_objects

from autolink import AutoLink, Gan, PoseTransfer
from autolink.checkpoints import BUNDLED, Pretrained, bundled, find_checkpoint
from autolink.errors import UserError
from recipes import bundle


def test_bundled_ones_are_found_by_name_and_kind() -> None:
    assert set(bundled("transfer")) == {"faces-transfer", "figures-transfer"}
    assert find_checkpoint("pets-gan") == BUNDLED / "pets-gan"
    assert find_checkpoint("faces-transfer/stage_one") == BUNDLED / "faces-transfer" / "stage_one"
    assert AutoLink.from_pretrained("faces").config.keypoints == 16


def test_a_stage_one_that_comes_twice_is_stored_once(tmp_path: Path) -> None:
    for name, part in (("pets", "pets-gan/stage_one"), ("figures", "figures-transfer/stage_one")):
        assert find_checkpoint(part) == find_checkpoint(BUNDLED / part) == BUNDLED / name
        assert not (BUNDLED / part / "model.safetensors").exists()
    whole = Gan.from_pretrained("pets-gan")
    whole.save_pretrained(tmp_path / "whole", half=True)
    inner = tmp_path / "whole" / "stage_one"
    torch.testing.assert_close(AutoLink.from_folder(inner).state_dict(), AutoLink.from_pretrained("pets").state_dict())
    bundle.store_once(inner)
    assert not (inner / "model.safetensors").exists() and find_checkpoint(inner) == BUNDLED / "pets"
    assert Gan.from_pretrained(tmp_path / "whole").stage_one.config == whole.stage_one.config
    weights = (BUNDLED / "faces" / "model.safetensors").read_bytes()
    AutoLink.from_pretrained("faces").save_pretrained(tmp_path / "faces", half=True)
    (tmp_path / "faces" / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    bundle.store_once(tmp_path / "faces")
    assert (tmp_path / "faces" / "model.safetensors").exists()  # not the same to the last bit


def test_loading_starts_no_compiler() -> None:
    """`torch._dynamo` takes two seconds to import, more than all else but torch itself."""
    program = (
        "import sys; from autolink import AutoLink, Gan, PoseTransfer; AutoLink.from_pretrained('faces'); "
        "PoseTransfer.from_pretrained('faces-transfer'); Gan.from_pretrained('pets-gan'); "
        "print(sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_folder_of_that_name_comes_first(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()  # somebody's pictures
    assert find_checkpoint("faces") == BUNDLED / "faces"
    (tmp_path / "pets").symlink_to(tiny_checkpoint)
    assert AutoLink.from_pretrained("pets").config.keypoints == 5


@pytest.mark.parametrize("name", ["facse", "owner/model", "../checkpoints", "/", ""])
def test_an_unknown_name_lists_the_bundled_ones_and_asks_no_network(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the Hub was asked"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no checkpoint .*faces-transfer|no checkpoint: it has no config"):
        AutoLink.from_pretrained(name)


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        (AutoLink, "faces-transfer", r"a pose transfer, .* did you mean .*faces-transfer.stage_one\?"),
        (PoseTransfer, "pets-gan", "a conditional GAN, .* faces-transfer, figures-transfer would do"),
        (Gan, "faces", "a stage one .* pets-gan would do"),
        (AutoLink, "figures-judge", "a judge of joints, .* faces, figures, pets would do"),
    ],
)
def test_another_kind_is_named_for_what_it_is(model: type[AutoLink], name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        model.from_pretrained(name)


def test_only_with_its_prefix_the_hub_is_asked_and_brings_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = BUNDLED / "faces-transfer"
    asked: dict[str, object] = {}

    def download(name: str, *, allow_patterns: list[str], **more: object) -> str:
        """What the Hub's client does, from a folder: only files that match."""
        asked.update(more, name=name)
        files = [p.relative_to(repository).as_posix() for p in repository.rglob("*.*") if p.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes((repository / file).read_bytes())
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loaded = PoseTransfer.from_pretrained("hf:owner/model@v1", token="secret", cache_dir=tmp_path)
    assert asked == {"name": "owner/model", "revision": "v1", "token": "secret", "cache_dir": tmp_path}
    for name, value in PoseTransfer.from_pretrained("faces-transfer").state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    PoseTransfer.from_pretrained("hf:owner/model@v1", revision="v2")
    assert asked["revision"] == "v2"
    with pytest.raises(UserError, match="hf:owner/name"):
        AutoLink.from_pretrained("hf:model")


@pytest.mark.parametrize("error", [OSError, EntryNotFoundError])
def test_a_name_that_the_hub_lacks_is_told(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=rf"the Hub gave no repository owner/model \({error.__name__}\)"):
        Gan.from_pretrained("hf:owner/model")


class LocalHub:
    """The Hub's client over a folder: what was uploaded is downloaded again."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.asked: dict[str, object] = {}
        monkeypatch.setattr(huggingface_hub, "HfApi", self.client)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)

    def client(self, token: str | None = None) -> "LocalHub":
        self.asked["token"] = token
        return self

    def create_repo(self, repository: str, *, exist_ok: bool, private: bool) -> None:
        self.asked["private"] = private
        (self.root / repository).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id: str, folder_path: Path, **more: object) -> None:
        self.asked.update(more)
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def download(self, repository: str, *, allow_patterns: list[str], **_: object) -> str:
        whole, copy = self.root / repository, self.root / "cache" / repository
        files = [path.relative_to(whole).as_posix() for path in whole.rglob("*.*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole / file, copy / file)
        return str(copy)


@pytest.mark.parametrize("name", ["faces", "faces-transfer", "pets-gan", "figures-judge"])
def test_every_kind_is_published_and_comes_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from autolink.checkpoints import kind_of
    from autolink.eval.judge_model import Judge

    hub = LocalHub(tmp_path, monkeypatch)
    kinds: dict[str, type[Pretrained]] = {"autolink": AutoLink, "transfer": PoseTransfer, "gan": Gan, "judge": Judge}
    kind, whole = kinds[kind_of(BUNDLED / name)], BUNDLED / name
    model = kind.from_pretrained(name)
    model.push_to_hub("owner/mine", token="t", private=True, commit_message="first")
    assert hub.asked == {"token": "t", "private": True, "commit_message": "first"}
    files = {path.relative_to(whole) for path in whole.rglob("*") if path.is_file()}
    if name == "pets-gan":  # whose stage one also comes by itself
        files.add(Path("stage_one/model.safetensors"))
    assert files == {
        p.relative_to(tmp_path / "owner/mine") for p in (tmp_path / "owner/mine").rglob("*") if p.is_file()
    }
    back = kind.from_pretrained("hf:owner/mine").state_dict()
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())


CARDS = sorted(BUNDLED.rglob("README.md"))


@pytest.mark.parametrize("card", CARDS, ids=[path.parent.relative_to(BUNDLED).as_posix() for path in CARDS])
def test_model_cards_name_what_the_hub_asks_for(card: Path) -> None:
    values = huggingface_hub.ModelCard.load(card).data
    assert values.library_name == "autolink" and values.license == "mit"
    assert values.pipeline_tag and values.datasets
    assert values.base_model or (card.parent.parent == BUNDLED and (card.parent / "stage_one").is_dir() is False)
    found = re.findall(r"^- \*\*(.+?)\*\*: \S", card.read_text(), re.MULTILINE)
    if card.parent.parent == BUNDLED:
        assert found == ["Intended use", "Data", "Command", "Figures", "Limits", "Licence"]
    else:
        assert re.search(
            r"Data, commands? and limits are in the model card of `[\w-]+`", " ".join(card.read_text().split())
        )


def test_bundled_checkpoints_are_small_and_whole() -> None:
    for folder in [path.parent for path in CARDS]:
        stored_here = {path.name for path in (folder, find_checkpoint(folder)) for path in path.iterdir()}
        assert {"config.json", "model.safetensors", "README.md"} <= stored_here
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < 36e6


def test_a_model_is_stored_as_a_mixture_of_one_training(
    tiny_gan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Gan.from_pretrained(tiny_gan)
    trained, between = copy.deepcopy(first), copy.deepcopy(first)
    for gan, more in ((trained, 2), (between, 1)):
        for weight in gan.generator.parameters():
            weight.data += more
        assert gan.generator.encoder
        gan.generator.encoder.mean += more
    trained.generator.structures.zero_()
    for name, gan in (("trained", trained), ("between", between), ("first", first)):
        gan.save_pretrained(tmp_path / name)
    words = ["bundle", str(tmp_path / "trained"), str(tmp_path / "out"), str(tmp_path / "between"), "0.5"]
    words += [str(tmp_path / "first")]
    monkeypatch.setattr("sys.argv", [*words, "0.25"])
    bundle.main()
    found = Gan.from_pretrained(tmp_path / "out").generator
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight, first.generator.get_parameter(name) + 1, atol=2e-3, rtol=2e-3)
    assert found.encoder and first.generator.encoder and not found.structures.any()
    torch.testing.assert_close(found.encoder.mean, first.generator.encoder.mean + 1, atol=2e-3, rtol=2e-3)
    for share in ("0.5", "0", "much"):
        monkeypatch.setattr("sys.argv", [*words, share])
        with pytest.raises(UserError, match="together below 1"):
            bundle.main()
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(UserError, match="each with its share"):
        bundle.main()
    with pytest.raises(UserError, match="other weights"):
        bundle.mix(trained, [(trained.stage_one, "0.5")])
