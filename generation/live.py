"""Transfer while the driver is filmed: the newest frame of a webcam, the screen or a file, redrawn in a window."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain, count
from threading import Condition, Thread

import cv2
import numpy as np
from numpy.typing import NDArray

from autolink.errors import UsageError, UserError
from autolink.generation.nested import Details
from autolink.generation.networks import Networks
from autolink.generation.redrawing import composed, driving_poses, redrawer, side_of
from autolink.generation.subjects import Appearance, DrivingMotion, crop_at, read_appearance
from autolink.generation.transfer_options import TransferConfig, TransferOptions
from autolink.generation.transfer_video import networks_for
from autolink.video.clip import Clip
from autolink.video.crop import Crop
from autolink.video.following import Followed, follow
from autolink.video.motion import Motion
from autolink.video.stills import STILL_RATE
from autolink.video.subject import find_subject
from autolink.video.synthetic import watermarked

Image = NDArray[np.uint8]

TITLE = "AutoLink: q or Esc ends"


def webcam() -> Generator[Image, None, None]:
    """Frames of the first camera, for ever, (H, W, 3) RGB.

    Raises:
        UserError: there is none, or it stopped.
    """
    camera = cv2.VideoCapture(0)
    try:
        if not camera.isOpened():
            raise UserError("--driver webcam: no camera could be opened; plug one in, or let this program use it")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        while True:
            found, image = camera.read()
            if not found:
                raise UserError("--driver webcam: the camera gives no more frames; is it unplugged?")
            yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        camera.release()


def screen() -> Generator[Image, None, None]:
    """The first screen, over and over, (H, W, 3) RGB.

    Raises:
        UserError: the package mss is not installed, or there is no screen.
    """
    try:
        import mss
    except ImportError:
        raise UserError(
            "--driver screen: the package mss is missing; install it with pip install 'autolink-keypoints[live]'"
        ) from None
    try:
        with mss.mss() as grabber:
            while True:
                picture = np.asarray(grabber.grab(grabber.monitors[1]))
                yield np.ascontiguousarray(picture[..., 2::-1])
    except mss.ScreenShotError as error:
        raise UserError(f"--driver screen: the screen cannot be read ({error}); allow screen recording") from None


def recorded(clip: Clip) -> Generator[Image, None, None]:
    """A clip's frames at its rate, as a camera would give them."""
    period, begin = float(1 / clip.facts().rate), time.perf_counter()
    for n, image in enumerate(clip.frames()):
        time.sleep(max(0.0, begin + n * period - time.perf_counter()))
        yield image


class Latest:
    """Iterates over the newest frames of a camera, which does not wait: those that came meanwhile are dropped."""

    captured, taken = 0, 0
    """How many frames the camera gave, and how many were not dropped."""
    time = 0.0
    """When the last one taken was captured, by `time.perf_counter`."""

    def __init__(self, camera: Generator[Image, None, None]) -> None:
        self.camera, self.news = camera, Condition()
        self.frame: tuple[float, Image] | None = None
        self.over = False
        self.error: Exception | None = None
        self.thread = Thread(target=self._capture, name="camera", daemon=True)
        self.thread.start()

    def _capture(self) -> None:
        error: Exception | None = None
        try:
            with closing(self.camera):
                for image in self.camera:
                    with self.news:
                        self.frame = time.perf_counter(), image
                        self.captured += 1
                        self.news.notify()
                        if self.over:
                            break
        except Exception as fault:  # noqa: BLE001 - told where the frame is waited for
            error = fault
        with self.news:
            self.over, self.error = True, error
            self.news.notify()

    def __iter__(self) -> Iterator[Image]:
        while True:
            with self.news:
                while not self.news.wait_for(lambda: self.frame or self.over, 0.1):  # Ctrl-C comes in between
                    pass
                if self.frame is None:
                    break
                (self.time, image), self.frame = self.frame, None
                self.taken += 1
            yield image
        if self.error:
            raise self.error

    def close(self) -> None:
        """Stop the camera."""
        with self.news:
            self.over = True
        self.thread.join(5)


def show_in_window(image: Image) -> bool:
    """Show a picture (H, W, 3) RGB; whether more are wanted."""
    cv2.imshow(TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(1) & 0xFF not in (ord("q"), 27) and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1


def check_display() -> None:
    """Refuse --show where no window can open: Qt would end the process.

    Raises:
        UsageError: OpenCV is without windows, or there is no display.
    """
    if not cv2.currentUIFramework():
        raise UsageError(
            "--show: this OpenCV opens no windows; pip uninstall opencv-python-headless, then pip install opencv-python"
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError("--show: there is no display here; run it on a desktop, or write a video with --out")


class LiveMotion:
    """Where the source moves as the driver does, frame by frame: relative to the first frame, and anew at every cut."""

    def __init__(self, options: TransferOptions, networks: Networks, appearance: Appearance) -> None:
        self.options, self.networks, self.appearance = options, networks, appearance
        self.reference: NDArray[np.floating] | None = None
        self.like: Details | None = None
        """What the children saw in the frames so far that are most like the source."""

    def pose(self, frame: Followed) -> NDArray[np.float64]:
        """The pose to redraw the source in, (1, K, 2), (x, y) in [-1, 1] of its crop."""
        if self.reference is None or frame.cut:
            self.reference, self.like = frame.keypoints, None
        height, width = frame.image.shape[:2]
        pair = Motion(np.stack([self.reference, frame.keypoints]), STILL_RATE, width, height)
        crop = crop_at(pair, 0, self.options, self.networks)
        empty = np.array([False, frame.state == "empty"])
        driving = DrivingMotion(pair, crop, 0, empty, [slice(0, 2)], [])
        poses: NDArray[np.float64] = driving_poses(self.options, self.networks, self.appearance, driving)
        return poses[1:]

    def expression(self, frame: Followed) -> Details | None:
        """The expression to redraw it in; None where the parent moves alone."""
        local, source = self.networks.model.local, self.appearance.details
        now = self.networks.details([frame.image], frame.keypoints[None])
        if not (local and source and now):
            return None
        seen = Details.joined([self.like, now] if self.like else [now])
        assert seen
        self.like = seen.likest(source)
        gains = {"mouth": self.options.lips, "eyes": self.options.eyes}
        return local.wanted(source, seen, gains, self.options.motion != "absolute").part(slice(-1, None))


def redrawn(
    frames: Iterable[Image], options: TransferOptions, networks: Networks, appearance: Appearance
) -> Iterator[Image]:
    """The source redrawn as each of a driver's frames is, from the first on that shows the subject; one by one."""
    motion, side = LiveMotion(options, networks, appearance), side_of(options, appearance)
    draw = redrawer(networks, appearance, side)
    beside: deque[Image] = deque(maxlen=1)

    def patches() -> Iterator[Image]:
        for frame in _followed(frames, options, networks):
            beside.append(frame.image)
            pose = motion.pose(frame)
            yield from draw(pose, motion.expression(frame))

    images = composed(options, appearance, patches(), side, (beside[0] for _ in count()))
    return map(watermarked, images) if options.watermark else images


def _followed(frames: Iterable[Image], options: TransferOptions, networks: Networks) -> Iterator[Followed]:
    """Frames with their keypoints from the first on that shows the subject; none waits for the next."""
    layout, size = networks.model.layout, networks.detector_size
    still, remaining = options.crop == "none", iter(frames)
    for image in remaining:
        height, width = image.shape[:2]
        subject = None if still else find_subject(image, networks.detect, layout, size)
        if subject is None or subject.settled:
            start = subject.crop if subject else Crop.centre(width, height)
            every = chain([image], remaining)
            yield from follow(every, networks.detect, None if still else layout, start, size, steadiness=0, batch=1)


def run_live(config: TransferConfig, show: Callable[[Image], bool] = show_in_window) -> None:
    """The command with --show: redraw until q, Esc, Ctrl-C or the end of a file, then say how fast that was.

    Raises:
        UsageError: no window can open.
        UserError: source or driver cannot be read, or the driver never showed the subject.
    """
    if show is show_in_window:
        check_display()
    source = Clip.of(config.src)
    checkpoint, networks = networks_for(source, config.checkpoint, config)
    appearance = read_appearance(source, config, networks)
    live = {"webcam": webcam, "screen": screen}.get(str(config.driver))
    latencies: list[float] = []
    print(f"looking for the subject of {config.driver}, checkpoint {checkpoint}; q, Esc or Ctrl-C ends", flush=True)
    with closing(Latest(live() if live else recorded(Clip.of(config.driver)))) as newest:
        begin = time.perf_counter()
        try:
            for image in redrawn(newest, config, networks, appearance):
                wanted = show(image)
                latencies.append(time.perf_counter() - newest.time)
                if not wanted:
                    break
        except KeyboardInterrupt:
            print()
        seconds = time.perf_counter() - begin
    if not latencies:
        raise UserError(f"--driver {config.driver}: no frame showed a subject that this checkpoint knows")
    median, slow = np.percentile(latencies, [50, 95]) * 1000
    dropped = newest.captured - newest.taken
    print(
        f"{len(latencies)} frames shown, {len(latencies) / seconds:.1f} a second; from capture to shown "
        f"{median:.0f} ms in the median, {slow:.0f} ms at the 95th percentile; {dropped} of {newest.captured} captured "
        "frames dropped"
    )
