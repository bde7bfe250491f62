"""Decoded frames as RGB: the right matrix, high dynamic range tone-mapped, over white, upright, with square pixels."""

from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import Colorspace, ColorTrc
from numpy.typing import NDArray

from autolink.video.container import MOST_PIXELS

Image = NDArray[np.uint8]

UNTAGGED = 2
"""`colorspace` of a frame that does not say by which matrix it was coded."""
UNUSED_ALPHA = frozenset(
    {"aasc", "bmp", "cscd", "dxtory", "ffv1", "ffvhuff", "flashsv", "fraps", "huffyuv", "lagarith", "magicyuv", "mszh"}
    | {"qtrle", "rawvideo", "targa", "tscc", "utvideo", "zlib"}
)
"""Codecs of 32 bits a pixel whose fourth byte is often left at zero instead of telling opacity."""

SDR_WHITE = 203.0
"""Candela per square metre of diffuse white in HDR, after BT.2408: what becomes white."""
HLG_PEAK = 1000.0
"""Candela per square metre of the display that HLG is viewed on, with its gamma of 1.2, after BT.2100."""
KNEE = 0.9
"""Linear light above which highlights are compressed."""
TO_709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
"""Linear BT.2020 to linear BT.709, after BT.2087."""
LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
"""Of linear BT.2020."""
SHADES = 65536
"""Steps of linear light between black and white in the table of display values."""


def square_size(frame: av.VideoFrame, ratio: Fraction | None) -> tuple[int, int]:
    """(width, height) with square pixels, before turning upright: as players do, the width is changed."""
    ratio = ratio or Fraction(1)
    width = max(1, round(frame.width * ratio)) if 0.1 < ratio < 10 else frame.width
    return (width if width * frame.height <= MOST_PIXELS else frame.width), frame.height


class Renderer:
    """Turns the decoded frames of one stream into (H, W, 3) RGB of one size."""

    def __init__(self, size: tuple[int, int], codec: str) -> None:
        self.size = size
        self.unused_alpha = codec in UNUSED_ALPHA  # until some of it is above zero

    def render(self, frame: av.VideoFrame) -> Image:
        """(H, W, 3), upright, over white."""
        if frame.colorspace == UNTAGGED and (frame.height > 576 or frame.width >= 1280):
            frame.colorspace = Colorspace.ITU709
        image = self._over_white(frame) if _has_alpha(frame) else self._opaque(frame)
        matrix = _display_matrix(frame)
        if matrix:
            image = upright(image, np.frombuffer(matrix, np.int32))  # type: ignore[call-overload]
        return np.ascontiguousarray(image)

    def _opaque(self, frame: av.VideoFrame) -> Image:
        width, height = self.size
        if frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
            codes = frame.to_ndarray(format="rgb48le", width=width, height=height)
            return tone_mapped(codes, hlg=frame.color_trc == ColorTrc.ARIB_STD_B67)  # type: ignore[arg-type]
        return frame.to_ndarray(format="rgb24", width=width, height=height)  # type: ignore[return-value]

    def _over_white(self, frame: av.VideoFrame) -> Image:
        width, height = self.size
        rgba = frame.to_ndarray(format="rgba", width=width, height=height).astype(np.uint16)
        alpha = rgba[..., 3:]
        self.unused_alpha = self.unused_alpha and not alpha.any()
        if self.unused_alpha and rgba.any():  # an animation that begins with nothing has no colours either
            return rgba[..., :3].astype(np.uint8)
        return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _display_matrix(frame: av.VideoFrame) -> SideData | None:
    try:
        matrix: SideData | None = frame.side_data.get("DISPLAYMATRIX")  # type: ignore[assignment]  # Mapping of nothing
        return matrix
    except ValueError:  # it has side data of a kind that PyAV does not know, such as EXIF: then none of it can be read
        return None


def _has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def tone_mapped(codes: NDArray[np.uint16], hlg: bool) -> Image:
    """16-bit R'G'B' of BT.2100, by PQ or HLG, as BT.709 for a display of gamma 2.4: (H, W, 3) both.

    What is no brighter than diffuse white keeps its colour, but for the knee; highlights approach white.
    """
    light = _linear_light(hlg)[codes]
    if hlg:  # from the scene's light to the display's
        luminance = cv2.transform(light, LUMINANCE)
        light *= np.power(np.maximum(luminance, 1e-6), np.float32(0.2))[..., None] * (HLG_PEAK / SDR_WHITE)
    light = np.maximum(cv2.transform(light, TO_709), 0)
    peak = light.max(2)
    bright = peak > KNEE
    over = peak[bright]
    light[bright] *= ((KNEE + (1 - KNEE) * (1 - np.exp((KNEE - over) / (1 - KNEE)))) / over)[:, None]
    return _displayed()[(light * (SHADES - 1) + 0.5).astype(np.uint16)]


@cache
def _linear_light(hlg: bool) -> NDArray[np.float32]:
    """Light of each 16-bit code: of the display in units of diffuse white by PQ, of the scene in [0, 1] by HLG."""
    code = np.arange(65536) / 65535
    if hlg:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, np.square(code) / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = np.power(code, 1 / m2)
        light = 10000 / SDR_WHITE * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1)
    return light.astype(np.float32)


@cache
def _displayed() -> Image:
    """The 8-bit value of each of `SHADES` steps of linear light."""
    shares: NDArray[np.float64] = np.arange(SHADES) / (SHADES - 1)
    return np.rint(255 * shares ** (1 / 2.4)).astype(np.uint8)


def upright(image: Image, matrix: NDArray[np.int32]) -> Image:
    """Turned and mirrored as the 3x3 display matrix says, which maps (x, y) to (a x + c y, b x + d y)."""
    a, b, _, c, d = matrix[:5].tolist()
    if abs(a) < abs(b):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
