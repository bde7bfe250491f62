"""Generated videos say so: tags, XMP after the IPTC's vocabulary, and a mark that can be seen."""

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID
from xml.sax.saxutils import escape

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

Image = NDArray[np.uint8]

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""What C2PA and the IPTC call a picture of someone that a trained model changed."""
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""And one that a trained model made altogether."""
XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
"""The box of an mp4 that holds XMP, after part 3 of its specification."""
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{comment}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def tags(made_with: str, what: str = "video", source_type: str = SOURCE_TYPE) -> dict[str, str]:
    """What a generated video or picture says of itself; `made_with` names programme, version and checkpoint."""
    never = "the motion was generated, this was never filmed" if source_type == SOURCE_TYPE else "a model made this up"
    return {
        "title": f"Synthetic {what}",
        "comment": f"Synthetic: {never}. Made with {made_with}.",
        "synthetic": "true",
        "digital_source_type": source_type,
    }


def xmp(metadata: Mapping[str, str]) -> str:
    """Tags as XMP."""
    texts = {name: escape(metadata.get(name, "")) for name in ("title", "comment")}
    return XMP.format(source_type=metadata.get("digital_source_type", SOURCE_TYPE), **texts)


def add_xmp(path: Path, metadata: Mapping[str, str]) -> None:
    """Append tags as an XMP box to a finished mp4."""
    content = XMP_BOX.bytes + xmp(metadata).encode()
    with path.open("ab") as file:
        file.write(struct.pack(">I4s", 8 + len(content), b"uuid") + content)


def png_info(metadata: Mapping[str, str]) -> PngInfo:
    """Tags as the text and XMP of a PNG."""
    info = PngInfo()
    for name, value in metadata.items():
        info.add_text(name.capitalize(), value)
    info.add_itxt("XML:com.adobe.xmp", xmp(metadata))
    return info


def add_gif_comment(path: Path, metadata: Mapping[str, str]) -> None:
    """Put tags as a comment before the first picture of a finished GIF."""
    text = "\n".join(f"{name}: {value}" for name, value in metadata.items()).encode()
    blocks = b"".join(bytes([len(text[n : n + 255])]) + text[n : n + 255] for n in range(0, len(text), 255))
    beside = path.with_suffix(".commented")
    with path.open("rb") as plain, beside.open("xb") as commented:
        head = plain.read(13)
        palette = 3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0
        commented.write(head + plain.read(palette) + b"\x21\xfe" + blocks + b"\0")
        shutil.copyfileobj(plain, commented)
    beside.replace(path)


def watermarked(image: Image, text: str = "synthetic") -> Image:
    """A picture (H, W, 3) with a small word in its lower right corner, light on dark; the picture given stays."""
    height, width = image.shape[:2]
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 1
    (wide, high), base = cv2.getTextSize(text, font, 1.0, thickness)
    scale = min(max(0.035 * min(height, width), 7.0) / high, 0.9 * width / wide)
    (wide, high), base = cv2.getTextSize(text, font, scale, thickness)
    margin = max(2, high // 2)
    top, left = max(0, height - high - base - 2 * margin), max(0, width - wide - 2 * margin)
    marked = image.copy()
    marked[top:, left:] //= 2
    place = (left + margin, height - margin - base // 2)
    cv2.putText(marked, text, place, font, scale, (235, 235, 235), thickness, cv2.LINE_AA)
    return marked
