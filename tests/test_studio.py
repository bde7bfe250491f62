"""The studio's server, without a browser: who may ask, what is taken, what is answered."""

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from PIL import Image

pytest.importorskip("fastapi", reason="the studio is an extra: pip install 'autolink-keypoints[studio]'")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from autolink import pictures
from autolink.data.figures import figure_clip
from autolink.errors import UserError
from autolink.generation.gan import Gan
from autolink.generation.styles import DIRECTIONS
from autolink.studio import commands, serve, session
from autolink.studio.animals import Animals, Look, Paint, mirrored_partners
from autolink.studio.app import Studio, make_app
from autolink.studio.discover import parts
from autolink.studio.jobs import Job, Jobs
from autolink.studio.live import packed, unpacked
from autolink.studio.session import Session, safe_name

PORT = 8642
LIVE = f"ws://127.0.0.1:{PORT}/live"


@pytest.fixture
def studio(tmp_path: Path, tiny_gan: Path) -> Studio:
    return Studio(tmp_path / "studio", str(tiny_gan), "cpu")


@pytest.fixture
def client(studio: Studio) -> Iterator[TestClient]:
    with TestClient(make_app(studio, PORT), base_url=f"http://127.0.0.1:{PORT}") as client:
        yield client


def as_png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def person() -> bytes:
    return as_png(figure_clip(1, 0, 96)[0][0])


def sent(client: TestClient, name: str, content: bytes) -> dict[str, Any]:
    answer = client.post(f"/api/uploads/{name}", content=content)
    assert answer.status_code == 200, answer.text
    held: dict[str, Any] = answer.json()
    return held


def ended(client: TestClient, identity: str, seconds: float = 300) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job: dict[str, Any] = next(job for job in client.get("/api/jobs").json() if job["id"] == identity)
        if job["state"] not in ("waiting", "running"):
            return job
        time.sleep(0.2)
    raise AssertionError(f"not done in {seconds} s: {job}")


# who may ask


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", f"evil.example:{PORT}", ""])
def test_a_foreign_name_is_refused(host: str, client: TestClient) -> None:
    """DNS rebinding: a page of evil.example whose name suddenly means 127.0.0.1 still says so in Host."""
    for path in ("/", "/api/jobs", "/style.css"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 403 and "this machine only" in answer.json()["error"]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_the_own_page_is_served(name: str, client: TestClient) -> None:
    headers = {"host": f"{name}:{PORT}", "origin": f"http://{name}:{PORT}", "sec-fetch-site": "same-origin"}
    assert client.get("/api/jobs", headers=headers).json() == []


def test_foreign_pages_are_refused(client: TestClient, person: bytes) -> None:
    for origin in ("https://evil.example", "null", f"https://127.0.0.1:{PORT}", "http://127.0.0.1:1"):
        answer = client.post("/api/uploads/a.png", content=person, headers={"origin": origin})
        assert answer.status_code == 403, origin
    assert client.get("/api/jobs", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link is harmless


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
def test_foreign_sockets_are_refused(headers: dict[str, str], client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers=headers):
        pass


def test_nothing_from_elsewhere_may_be_loaded(client: TestClient) -> None:
    answer = client.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Path(serve.__file__).parent / "page"
    assert {"index.html", "style.css", "app.js"} <= {path.name for path in page.iterdir()}
    for path in page.iterdir():
        text = path.read_text().replace("http://www.w3.org/", "")
        assert "https://" not in text and "http://" not in text, path
        assert client.get(f"/{path.name}").content == path.read_bytes()


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of #rrggbb."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast_is_that_of_wcag_aa(theme: int) -> None:
    style = (Path(serve.__file__).parent / "page" / "style.css").read_text()
    block = re.findall(r":root[^{]*\{(.*?)\}", style, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    text = [(front, back) for front in ("ink", "soft", "accent") for back in ("paper", "surface", "sunken")]
    text += [("on-accent", "accent"), ("accent", "accent-soft"), ("bad", "bad-soft"), ("warn", "warn-soft")]
    parts = [("line-strong", "surface"), ("accent", "surface")]  # borders and handles of controls
    for pairs, least in ((text, 4.5), (parts, 3.0)):
        for front, back in pairs:
            high, low = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (front, back)


def test_only_this_machine_can_connect(fails: Callable[..., str]) -> None:
    with serve.listening(0) as first:
        address, port = first.getsockname()
        assert address == "127.0.0.1"
        assert f"--port {port}" in fails(2, lambda: serve.listening(port))
    assert "--port is 0 to 65535" in fails(2, lambda: serve.StudioConfig(port=70000))
    assert "is a file" in fails(2, lambda: serve.StudioConfig(folder=Path(__file__)))


# uploads


def test_an_upload_is_looked_at_and_kept(client: TestClient, studio: Studio, person: bytes) -> None:
    held = sent(client, "me.png", person)
    assert (held["kind"], held["name"], held["width"], held["height"]) == ("picture", "me.png", 96, 96)
    assert client.get(f"/api/uploads/{held['id']}").json() == held
    file = client.get(f"/api/uploads/{held['id']}/file")
    assert file.content == person and file.headers["content-type"] == "image/png"
    as_page = sent(client, "page.html", person)  # a picture, whatever its name says
    assert client.get(f"/api/uploads/{as_page['id']}/file").headers["content-type"] == "application/octet-stream"
    shutil.rmtree(studio.session.uploads / as_page["id"])
    shown = Image.open(io.BytesIO(client.get(f"/api/uploads/{held['id']}/picture").content))
    assert shown.size == (96, 96) and shown.format == "JPEG"
    assert {path.name for path in studio.session.folder.rglob("*") if path.is_file()} == {"me.png", "upload.json"}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "a.png is empty"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "a.png cannot be read as a picture"),
        ("a.txt", b"hello", "a.txt cannot be read"),
        ("a.mp4", b"hello" * 100, "a.mp4 cannot be read as a video"),
        ("a.json", b"{}", "a.json holds no frames"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "a.svg cannot be read"),
    ],
)  # fmt: skip
def test_a_broken_upload_is_told_in_a_sentence_and_not_kept(
    name: str, content: bytes, reason: str, client: TestClient, studio: Studio
) -> None:
    answer = client.post(f"/api/uploads/{name}", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(reason) and str(studio.session.folder) not in answer.text
    assert not list(studio.session.uploads.iterdir())


def test_uploads_are_limited(
    client: TestClient, studio: Studio, person: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LARGEST_VIDEO", 1000)
    assert "is over 0 MB" in client.post("/api/uploads/a.mp4", content=bytes(1001)).json()["error"]
    monkeypatch.undo()
    monkeypatch.setattr(session, "LARGEST_PICTURE", 1000)
    assert "is over 0 MB" in client.post("/api/uploads/a.png", content=person).json()["error"]
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1000)
    assert "million pixels" in client.post("/api/uploads/bomb.png", content=person).json()["error"]
    monkeypatch.undo()
    assert not list(studio.session.uploads.iterdir())
    sent(client, "a.png", person)
    monkeypatch.setattr(session, "LARGEST_SESSION", 10)
    assert "delete some of them" in client.post("/api/uploads/b.png", content=person).json()["error"]


def test_a_long_video_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    held = client.post("/api/gallery/dance.mp4").json()
    assert held["kind"] == "video" and held["seconds"] == pytest.approx(3)
    monkeypatch.setattr(session, "LONGEST", 2.0)
    content = client.get(f"/api/uploads/{held['id']}/file").content
    assert "3 s long, more than 2" in client.post("/api/uploads/a.mp4", content=content).json()["error"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("me.png", "me.png"), ("../../etc/passwd", "passwd"), ("C:\\a\\b.png", "b.png"), ("..", "file"), ("", "file"),
        ("-rf", "rf"), (".hidden", "hidden"), ("a\x00b;c.png", "a_b_c.png"), ("x" * 300 + ".png", "x" * 76 + ".png"),
        ("bär 2.png", "bär 2.png"),
    ],
)  # fmt: skip
def test_names_are_made_safe(given: str, kept: str) -> None:
    assert safe_name(given) == kept


def test_files_stay_within_the_session(client: TestClient, studio: Studio, tmp_path: Path, person: bytes) -> None:
    held = sent(client, "me.png", person)
    (tmp_path / "secret.txt").write_text("secret")
    (studio.session.uploads / held["id"] / "link").symlink_to(tmp_path / "secret.txt")
    for identity, name in (
        (held["id"], "../../../secret.txt"), (held["id"], "link"), ("..", "secret.txt"), ("", "me.png"),
        (held["id"], str(tmp_path / "secret.txt")), ("0" * 16, "me.png"),
    ):  # fmt: skip
        with pytest.raises(UserError, match="there is no file"):
            studio.session.inside(studio.session.uploads, identity, name)
    studio.jobs.add("report", "a", lambda folder: [])
    (identity,) = studio.jobs.jobs
    for name in ("../../../secret.txt", "%2e%2e/%2e%2e/%2e%2e/secret.txt", "..%2f..%2f..%2fsecret.txt"):
        assert "secret" not in client.get(f"/api/jobs/{identity}/files/{name}").text.replace("secret.txt", "")


def test_an_upload_cannot_name_another_file(studio: Studio, client: TestClient, person: bytes) -> None:
    """Whatever upload.json says, the file served is one of its folder."""
    held = sent(client, "me.png", person)
    facts = studio.session.uploads / held["id"] / "upload.json"
    facts.write_text(facts.read_text().replace("me.png", "../../../../../etc/hostname"))
    assert client.get(f"/api/uploads/{held['id']}/file").status_code == 400
    assert (
        sent(client, "upload.json", b'{"rate": "25", "width": 9, "height": 9, "frames": [[[1, 2], [3, 4]]]}')["kind"]
        == "motion"
    )


# pictures at once


def ask(socket: Any, slot: str, number: int, **content: Any) -> None:
    socket.send_bytes(packed({"slot": slot, "id": number, **content}))


def answers(socket: Any) -> Iterator[tuple[dict[str, Any], bytes]]:
    while True:
        yield unpacked(socket.receive_bytes())


def test_a_picture_is_that_of_the_gan(client: TestClient, tiny_gan: Path) -> None:
    facts = client.get("/api/animals").json()
    points = facts["structures"][3]
    with client.websocket_connect(LIVE) as socket:
        look = {"seed": 4, "number": 2, "class_number": 1, "truncation": 0.6}
        ask(socket, "picture", 1, kind="paint", wanted={"keypoints": points, "look": look})
        header, jpeg = next(answers(socket))
    assert header == {"slot": "picture", "id": 1}
    gan = Gan.from_pretrained(tiny_gan)
    expected = gan.sample(np.array([points], np.float32), [2], seed=4, class_name="dog", truncation=0.6)[0, 0]
    shown = np.asarray(Image.open(io.BytesIO(jpeg)))
    assert shown.shape == expected.shape == (facts["size"], facts["size"], 3)
    assert np.abs(shown.astype(int) - expected).mean() < 6  # JPEG
    assert np.abs(shown.astype(int) - expected).mean() < np.abs(expected.astype(int) - expected.mean()).mean() / 2


def test_the_newest_request_wins(client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    points = client.get("/api/animals").json()["structures"][0]
    paint = Animals.paint

    def slow(self: Animals, wanted: Paint) -> bytes:
        time.sleep(0.15)
        return paint(self, wanted)

    monkeypatch.setattr(Animals, "paint", slow)
    with client.websocket_connect(LIVE) as socket:
        for number in range(1, 31):
            ask(socket, "picture", number, kind="paint", wanted={"keypoints": points})
        ask(socket, "tile", 99, kind="paint", wanted={"keypoints": points})
        seen = []
        for header, _ in answers(socket):
            seen.append((header["slot"], header["id"]))
            if header["slot"] == "tile":
                break
    ids = [number for slot, number in seen if slot == "picture"]
    assert ids[-1] == 30 and len(ids) < 10  # the others were passed over
    assert seen[-1] == ("tile", 99)  # a slot of its own, after the picture


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"keypoints": [[0, 0]]}, "has 5 keypoints"),
        ({"keypoints": [[9, 0]] * 5}, "within 1.25"),
        ({"keypoints": [[float("nan"), 0]] * 5}, "within 1.25"),
        ({"keypoints": [[0, 0]] * 5, "off": [10]}, "edges are 0 to 9"),
        ({"keypoints": [[0, 0]] * 5, "off": [-1]}, "edges are 0 to 9"),
        ({"keypoints": [[0, 0]] * 5, "look": {"class_number": 7}}, "no class 7"),
        ({"keypoints": [[0, 0]] * 5, "look": {"seed": -1}}, "greater than or equal to 0"),
        (None, "valid dictionary"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_and_the_line_stays(wanted: Any, reason: str, client: TestClient) -> None:
    with client.websocket_connect(LIVE) as socket:
        ask(socket, "picture", 1, kind="paint", wanted=wanted)
        header, payload = next(answers(socket))
        assert reason in header["error"] and not payload
        ask(socket, "picture", 2, kind="paint", wanted={"keypoints": [[0, 0]] * 5})
        assert next(answers(socket))[0] == {"slot": "picture", "id": 2}


def test_a_broken_packet_ends_the_line(client: TestClient) -> None:
    with client.websocket_connect(LIVE) as socket:
        socket.send_bytes(b"nonsense")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_bytes()
    assert closed.value.code == 1003


def test_packets() -> None:
    assert unpacked(packed({"slot": "a", "n": 1}, b"xyz")) == ({"slot": "a", "n": 1}, b"xyz")
    for packet in (b"", b"abc", struct.pack(">I", 2) + b"[]", struct.pack(">I", 99) + b"{}", packed({})):
        with pytest.raises(ValueError):
            unpacked(packet)


def test_edges_sweeps_and_truncation_change_the_picture(tiny_gan: Path) -> None:
    animals = Animals(Gan.from_pretrained(tiny_gan))
    points = animals.facts()["structures"][0]

    def painted(**wanted: Any) -> np.ndarray:
        jpeg = animals.paint(Paint.model_validate({"keypoints": points, **wanted}))
        return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)

    plain = painted()
    assert np.array_equal(plain, painted())
    strongest = int(np.argmax(animals.facts()["weights"]))
    for changed in ({"off": [strongest]}, {"look": {"sweep": [3.0]}}, {"look": {"number": 1}}, {"look": {"seed": 1}}):
        assert np.abs(plain - painted(**changed)).max() > 0, changed
    assert np.array_equal(painted(look={"truncation": 0}), painted(look={"truncation": 0, "number": 9}))
    assert animals.style(Look(sweep=[0.0] * DIRECTIONS)).equal(animals.style(Look()))


def test_mirrored_twice_is_as_before() -> None:
    mean = np.array([[-0.5, 0.1], [0.02, 0.9], [0.48, 0.12], [0.3, -0.6], [-0.31, -0.58]])
    partners = mirrored_partners(mean + np.random.default_rng(0).normal(0, 0.01, (50, 5, 2)))
    assert partners.tolist() == [2, 1, 0, 4, 3]
    bundled = mirrored_partners(np.array(Animals(Gan.from_pretrained("pets-gan")).facts()["structures"]))
    K = len(bundled)
    assert bundled[bundled].tolist() == list(range(K)) and (bundled != np.arange(K)).sum() >= K // 2


# discover


def test_parts_are_the_blocks_of_the_graph() -> None:
    blocks = [[0, 3, 5], [1, 2, 4, 6], [7, 8]]
    weights = np.full((9, 9), 1e-3)
    for block in blocks:
        weights[np.ix_(block, block)] = 1
    found = parts(weights[np.triu_indices(9, 1)], 9, 3)
    assert [sorted(k for k in range(9) if found[k] == n) for n in range(3)] == blocks
    assert found[0] == 0 and parts(weights[np.triu_indices(9, 1)], 9, 3) == found


def test_keypoints_of_an_upload_are_those_of_the_api(client: TestClient, person: bytes) -> None:
    from autolink import AutoLink

    held = sent(client, "me.png", person)
    found = client.get(f"/api/uploads/{held['id']}/keypoints?checkpoint=figures").json()
    model = AutoLink.from_pretrained("figures")
    expected = model.detect(Image.open(io.BytesIO(person)), pixels=True).numpy()
    assert np.allclose(found["keypoints"], expected, atol=0.02)
    assert (found["width"], found["height"], found["owners"], found["regions"]) == (96, 96, [], [])
    assert len(found["weights"]) == len(found["pairs"]) == 276 and max(found["weights"]) == 1
    assert len(found["parts"]["4"]) == 24 and len(set(found["parts"]["4"])) == 4
    drawn = client.get(f"/api/uploads/{held['id']}/edge_map?checkpoint=figures")
    assert Image.open(io.BytesIO(drawn.content)).size == (256, 256)
    wrong = client.get(f"/api/uploads/{held['id']}/keypoints?checkpoint=../x")
    assert wrong.status_code == 400 and "choose one of the list" in wrong.json()["error"]


def test_children_look_into_their_regions(client: TestClient, person: bytes) -> None:
    held = sent(client, "me.png", as_png(np.asarray(Image.open(io.BytesIO(person)).resize((200, 150)))))
    found = client.get(f"/api/uploads/{held['id']}/keypoints?checkpoint=faces-transfer/stage_one").json()
    assert sorted(found["owners"]) == ["eyes", "eyes", "mouth"]
    assert len(found["keypoints"]) == 24 + 12 + 8 + 8 and len(found["regions"]) == 3
    for corners in np.array(found["regions"]):
        assert np.allclose(corners[0] + corners[2], corners[1] + corners[3], atol=0.1)  # a parallelogram


def test_the_webcam_is_looked_at(client: TestClient, person: bytes) -> None:
    with client.websocket_connect(LIVE) as socket:
        for payload in (person, b"no picture"):
            wanted = {"kind": "look", "checkpoint": "figures", "edges": True}
            socket.send_bytes(packed({"slot": "camera", "id": 1, **wanted}, payload))
            header, drawn = next(answers(socket))
            if payload == person:
                assert Image.open(io.BytesIO(drawn)).size == (256, 256)
                assert len(header["keypoints"]) == 24 and header["checkpoint"] == "figures"
            else:
                assert "the webcam's frame cannot be read" in header["error"]


# transfer by hand


def test_a_source_moved_by_hand_is_redrawn_as_by_the_command(client: TestClient, person: bytes, tmp_path: Path) -> None:
    from autolink.generation.transfer_video import transfer_video
    from autolink.video.motion import Motion, write_motion

    held = sent(client, "me.png", person)
    facts = client.get(f"/api/uploads/{held['id']}/puppet?crop=none").json()
    assert facts["checkpoint"] == "figures-transfer" and facts["crop"] == [0, 0, 96, 96]
    pose = np.array(facts["keypoints"])
    pose[4] += [0.2, -0.1]
    with client.websocket_connect(LIVE) as socket:
        for number, points in enumerate((pose, pose[1:], pose + 9)):
            wanted = {"upload": held["id"], "crop": "none", "keypoints": points.tolist()}
            ask(socket, "picture", number, kind="move", wanted=wanted)
            header, jpeg = next(answers(socket))
            if number:
                assert "24 keypoints" in header["error"]
            else:
                shown = np.asarray(Image.open(io.BytesIO(jpeg))).astype(float)
    # the same pose by a motion file
    pixels = (np.stack([facts["keypoints"], pose]) + 1) / 2 * 95
    write_motion(tmp_path / "motion.json", Motion(pixels, Fraction(25), 96, 96))
    source = Image.open(io.BytesIO(person))
    frames = list(transfer_video(source, tmp_path / "motion.json", "figures-transfer", motion="absolute", crop="none"))
    assert shown.shape == frames[1].shape == (96, 96, 3)
    assert np.abs(shown - frames[1]).mean() < 3  # JPEG
    assert np.abs(shown - frames[0]).mean() > 1.2 * np.abs(shown - frames[1]).mean()


def learned(client: TestClient, **wanted: Any) -> dict[str, Any]:
    with client.websocket_connect(LIVE) as socket:
        ask(socket, "learn", 1, kind="learn", wanted=wanted)
        header, _ = next(answers(socket))
    return header


def test_expressions_are_the_principal_directions_of_poses_or_a_driver(client: TestClient, person: bytes) -> None:
    held = sent(client, "me.png", person)
    own = np.array(client.get(f"/api/uploads/{held['id']}/puppet?crop=none").json()["keypoints"])
    rng = np.random.default_rng(0)
    lift, spread = np.zeros_like(own), np.zeros_like(own)
    lift[3, 1], spread[[5, 8], 0] = 1, [1, -1]
    amounts = rng.normal(size=(40, 2)) * [0.2, 0.02]
    poses = own + amounts[:, :1, None] * lift + amounts[:, 1:, None] * spread
    found = np.array(learned(client, upload=held["id"], crop="none", poses=poses.tolist())["directions"])
    assert np.allclose(np.abs(found[0]), amounts[:, 0].std() * lift, atol=5e-3)
    assert np.abs(found[1][[5, 8], 0]).min() > 0.01 and np.linalg.norm(found[0]) > np.linalg.norm(found[1])
    driver = client.post("/api/gallery/dance.mp4").json()
    found = np.array(learned(client, upload=held["id"], crop="none", driver=driver["id"], end=0.4)["directions"])
    assert found.shape == (5, 24, 2) and (np.diff(np.linalg.norm(found, axis=(1, 2))) <= 0).all()
    few = learned(client, upload=held["id"], crop="none", poses=poses[:2].tolist())
    assert "three poses or more" in few["error"]


def test_lips_are_moved_by_hand(client: TestClient) -> None:
    held = client.post("/api/gallery/face.png").json()
    facts = client.get(f"/api/uploads/{held['id']}/puppet?crop=auto").json()
    assert facts["owners"] == ["eyes", "eyes", "mouth"] and max(map(max, facts["edges"])) == 24 + 8 + 8 + 12 - 1
    lips = np.array(facts["regions"][2])
    opened = [*facts["regions"][:2], (lips * [1, 1.6]).tolist()]
    shown = {}
    with client.websocket_connect(LIVE) as socket:
        for number, regions in enumerate((facts["regions"], [], opened, opened[:2])):
            wanted = {"upload": held["id"], "crop": "auto", "keypoints": facts["keypoints"], "regions": regions}
            ask(socket, "picture", number, kind="move", wanted=wanted)
            header, jpeg = next(answers(socket))
            if number == 3:
                assert "other regions" in header["error"]
                continue
            shown[number] = np.asarray(Image.open(io.BytesIO(jpeg))).astype(float).mean(2)
            (a, b, c), (d, e, f) = header["maps"][2]  # from the mouth's plane to the square's
    assert np.array_equal(shown[0], shown[1])  # its own expression is no expression
    changed = np.abs(shown[2] - shown[0])
    side = len(changed)
    y, x = np.unravel_index(changed.argmax(), changed.shape)
    assert changed.max() > 20 and np.abs(np.array([x, y]) / (side - 1) * 2 - 1 - [c, f]).max() < 0.3
    assert changed[: side // 2].max() < 1 and 0.05 < abs(a) < 0.6 and abs(a - e) < 1e-3 and abs(b + d) < 1e-3


def test_a_strip_shows_a_clip(client: TestClient) -> None:
    held = client.post("/api/gallery/talk.mp4").json()
    strip = Image.open(io.BytesIO(client.get(f"/api/uploads/{held['id']}/strip").content))
    assert strip.size == (10 * 72, 72)
    first, last = (np.asarray(strip.crop((n * 72, 0, n * 72 + 72, 72))).astype(float) for n in (0, 9))
    assert 1 < np.abs(first - last).mean() < 60


# jobs


def test_the_form_knows_the_presets(client: TestClient) -> None:
    listed = client.get("/api/presets").json()
    assert list(listed) == ["figures", "faces-cpu", "cats-cpu", "paper-k4", "paper-k8", "paper-k16", "paper-k32"]
    assert listed["paper-k8"] == {"keypoints": 8, "size": 128, "steps": 20001, "batch": 64}
    job = client.post("/api/jobs/train", json={"preset": "paper-k8", "estimate": True}).json()
    client.post(f"/api/jobs/{job['id']}/stop")
    assert job["command"][:4] == ["autolink", "train", "--preset", "paper-k8"]
    wrong = client.post("/api/jobs/train", json={"preset": "horse-k32"})
    assert wrong.status_code == 400 and "there is no preset horse-k32; there are figures" in wrong.json()["error"]


def test_a_tqdm_bar_is_understood() -> None:
    job = Job("a", "transfer", "", [], 0)
    job.hear("redrawing:  45%|####5     | 34/75 [00:03<00:05,  9.1frame/s]")
    assert (job.doing, job.progress, job.left) == ("redrawing", 34 / 75, "00:05")
    job.hear("  1%|          | 17/1700 [00:03<05:05, 5.5step/s, loss=0.5]")
    assert (job.doing, job.progress, job.left) == ("working", 0.01, "05:05")
    job.hear("driver: 12frame [00:01, 9.0frame/s]")
    assert (job.doing, job.progress) == ("driver, 12 so far", None)
    job.hear("warning: the mouth cannot be made out")
    job.hear("error: there is no such file")
    assert job.notes == ["the mouth cannot be made out"] and job.error == "there is no such file"


def test_a_transfer_runs_and_is_that_of_the_command(client: TestClient, studio: Studio, person: bytes) -> None:
    source = sent(client, "me.png", person)
    driver = client.post("/api/gallery/dance.mp4").json()
    asked = {"source": source["id"], "driver": driver["id"], "motion": "absolute", "end": 0.2, "crop": [0, 0, 96, 96]}
    job = client.post("/api/jobs/transfer", json=asked).json()
    assert job["command"][:2] == ["autolink", "transfer"] and str(studio.session.folder) not in json.dumps(job)
    done = ended(client, job["id"])
    assert done["state"] == "done", done
    video = client.get(f"/api/jobs/{job['id']}/files/result.mp4", headers={"range": "bytes=0-99"})
    assert video.status_code == 206 and len(video.content) == 100
    motion = client.get(f"/api/jobs/{job['id']}/files/motion.json").content
    assert len(json.loads(motion)["frames"]) == 5
    assert sent(client, "motion.json", motion)["kind"] == "motion"  # and can drive another


def test_what_cannot_be_moved_is_told_at_once(client: TestClient, person: bytes) -> None:
    held = sent(client, "me.png", person)
    said = client.post("/api/jobs/transfer", json={"source": held["id"], "driver": held["id"]})
    assert said.status_code == 400 and "does not move" in said.json()["error"]
    gone = client.post("/api/jobs/transfer", json={"source": held["id"], "driver": "0" * 16})
    assert gone.status_code == 400 and "may have been deleted" in gone.json()["error"]
    wrong = client.post("/api/jobs/transfer", json={"source": held["id"], "driver": held["id"], "lips": 99})
    assert wrong.status_code == 422 and wrong.json()["error"].startswith("lips: ")
    extra = client.post("/api/jobs/transfer", json={"source": "a", "driver": "b", "out": "/etc/passwd"})
    assert extra.status_code == 422
    assert "whole path" in client.post("/api/jobs/train", json={"data": "my_pictures"}).json()["error"]
    assert "no checkpoint" in client.post("/api/jobs/report", json={"checkpoints": ["/etc"]}).json()["error"]


def sleeper(client: TestClient, jobs: Jobs, seconds: float = 60) -> Job:
    """A job that does nothing for a while."""
    assert client.portal
    return client.portal.call(jobs.add, "report", "sleep", lambda folder: [f"sleep-{seconds}"])


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run `python -c sleep` in place of autolink."""
    import asyncio

    create = asyncio.create_subprocess_exec

    async def sleeping(*words: str, **options: Any) -> Any:
        code = f"import time; print('begun', flush=True); time.sleep({words[-1].removeprefix('sleep-')})"
        return await create(sys.executable, "-c", code, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", sleeping)


def test_one_job_runs_at_a_time_and_can_be_stopped(asleep: None, client: TestClient, studio: Studio) -> None:
    first, second, third = (sleeper(client, studio.jobs, seconds) for seconds in (60, 60, 0))
    until = time.monotonic() + 60
    while first.said != ["begun"] and time.monotonic() < until:
        time.sleep(0.05)
    assert [job.state for job in (first, second, third)] == ["running", "waiting", "waiting"]
    client.post(f"/api/jobs/{second.id}/stop")
    client.post(f"/api/jobs/{first.id}/stop")
    assert ended(client, third.id, 60)["state"] == "done"
    assert first.state == second.state == "stopped"
    assert client.post("/api/jobs/none/stop").status_code == 400


def test_jobs_survive_the_studio(asleep: None, tmp_path: Path, tiny_gan: Path) -> None:
    studio = Studio(tmp_path / "studio", str(tiny_gan), "cpu")
    with TestClient(make_app(studio, PORT), base_url=f"http://127.0.0.1:{PORT}") as client:
        done, cut, never = (sleeper(client, studio.jobs, seconds) for seconds in (0, 60, 60))
        ended(client, done.id, 60)
        while cut.said != ["begun"]:
            time.sleep(0.05)
    again = Jobs(Session(tmp_path / "studio"))
    assert [again.jobs[job.id].state for job in (done, cut, never)] == ["done", "stopped", "stopped"]
    assert "closed while it ran" in again.jobs[cut.id].error
    (again.folder(done) / "job.json").write_text("{")
    assert done.id not in Jobs(Session(tmp_path / "studio")).jobs


def test_a_page_is_told_of_every_job(asleep: None, client: TestClient, studio: Studio) -> None:
    earlier = sleeper(client, studio.jobs, 0)
    ended(client, earlier.id, 60)
    with client.websocket_connect(LIVE) as socket, client.websocket_connect(LIVE) as other:
        for line in (socket, other):
            assert next(answers(line))[0]["job"]["id"] == earlier.id
        job = client.post(f"/api/jobs/{sleeper(client, studio.jobs, 0).id}/stop").json()
        for line in (socket, other):
            states = []
            for header, _ in answers(line):
                states.append(header["job"]["state"])
                if header["job"]["id"] == job["id"] and states[-1] in ("stopped", "done"):
                    break


def test_a_training_is_estimated_run_stopped_and_resumed(
    client: TestClient, studio: Studio, many_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to = commands.Train.add_to

    def tiny(self: commands.Train, jobs: Jobs, session: Session) -> Job:
        job = add_to(self, jobs, session)
        skipped = {"--size", "--keypoints", "--batch", "--steps"}
        pairs = [(name, n) for n, name in enumerate(TINY) if name.startswith("--") and name not in skipped]
        for name, n in pairs:
            end = next((m for m in range(n + 1, len(TINY)) if TINY[m].startswith("--")), len(TINY))
            job.arguments += [name, *TINY[n + 1 : end]]
        return job

    monkeypatch.setattr(commands.Train, "add_to", tiny)
    asked = {"data": str(many_pictures), "keypoints": 4, "steps": 6, "size": 32, "batch": 4}
    estimate = client.post("/api/jobs/train", json={**asked, "estimate": True}).json()
    done = ended(client, estimate["id"])
    assert done["state"] == "done", done
    assert any(line.startswith("about ") and "minutes" in line for line in done["said"])
    assert not list(studio.session.runs.iterdir())

    job = client.post("/api/jobs/train", json=asked).json()
    done = ended(client, job["id"])
    assert done["state"] == "done", done
    run = client.get(f"/api/jobs/{job['id']}/run").json()
    assert [row["step"] for row in run["metrics"] if "loss" in row] == [2, 4, 6] and run["model"]
    sample = client.get(f"/api/jobs/{job['id']}/samples/{run['samples'][-1]}")
    assert Image.open(io.BytesIO(sample.content)).format == "PNG"
    assert f"runs/{job['id']}" in client.get("/api/checkpoints").json()["stage_ones"]

    studio.jobs.jobs[job["id"]].state = "stopped"
    resumed = client.post(f"/api/jobs/{job['id']}/resume").json()
    assert resumed["state"] == "waiting" and "--resume" in resumed["command"]
    assert ended(client, job["id"])["state"] == "done"
    refused = client.post(f"/api/jobs/{estimate['id']}/resume")
    assert refused.status_code == 400 and "cannot be resumed" in refused.json()["error"]


def test_the_command_tells_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    said = fails(2, lambda: serve.run(serve.StudioConfig(folder=tmp_path / "s")))
    assert "the studio needs uvicorn: pip install 'autolink-keypoints[studio]'" in said
    assert not (tmp_path / "s").exists()


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    import signal
    import urllib.request

    words = [sys.executable, "-m", "autolink.cli", "studio", "--port", "0", "--no-browser", "--folder", "s"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        address = line.split(" at ")[1].split(" ")[0]
        until = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"{address}api/about") as answer:
                    assert json.load(answer)["folder"] == str((tmp_path / "s").resolve())
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    shutil.rmtree(tmp_path / "s")
