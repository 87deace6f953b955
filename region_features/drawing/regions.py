"""Draw a record's regions on its image: boxes, "attribute object", confidence.

H, W: size of the image in pixels. Needs Pillow with FreeType, which its wheels have.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from region_features.drawing.labels import Rectangle, place_labels
from region_features.names.class_names import ClassNames
from region_features.records.region_record import RegionRecord

# Colours that people with any kind of colour blindness tell apart, without black: Okabe and Ito 2008,
# https://jfly.uni-koeln.de/color/. Neighbours differ most in lightness.
COLOURS = ("#E69F00", "#D55E00", "#F0E442", "#56B4E9", "#0072B2", "#CC79A7", "#009E73")
# Smaller images are enlarged: text of a readable size would cover them.
_MIN_SIDE = 600
# Shares of the longer side.
_TEXT_SIZE, _LINE_WIDTH = 1 / 50, 1 / 350
_MIN_TEXT_SIZE = 13


def chosen_rows(record: RegionRecord, top: int | None, min_confidence: float) -> NDArray[np.int64]:
    """Return the rows of the regions to draw, the most confident first; all, in order, without confidences."""
    if record.lacks("objects_conf"):
        return np.arange(record.num_boxes)[:top]
    order = np.argsort(-record.objects_conf, kind="stable")
    return order[record.objects_conf[order] >= min_confidence][:top]


def draw_regions(
    pixels: NDArray[np.uint8],
    record: RegionRecord,
    names: ClassNames | None = None,
    top: int | None = None,
    min_confidence: float = 0.0,
) -> Image.Image:
    """Draw boxes and labels; an image below 600 pixels is enlarged to them first.

    Args:
        pixels: the decoded image, uint8 (H, W, 3) BGR, as `region_features.images.decode.decode_image` gives it.
        record: its regions.
        names: of the network's classes; None labels with the numbers.
        top: at most so many regions, those with the most confident objects; None for all.
        min_confidence: least confidence of a region's object.

    Raises:
        ValueError: the image has not the size that the record says.
    """
    height, width = pixels.shape[:2]
    if (height, width) != (record.img_h, record.img_w):
        raise ValueError(
            f"image {record.img_id}: expected {record.img_w} x {record.img_h} pixels as its record says, "
            f"got {width} x {height}; give the image that the regions were found in"
        )
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))
    scale = max(1.0, _MIN_SIDE / max(width, height))
    if scale > 1:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(image)
    rows = chosen_rows(record, top, min_confidence)
    edges = (record.boxes[rows] * scale).clip(0, [image.width - 1, image.height - 1] * 2)
    boxes: list[Rectangle] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in edges.tolist()]
    line = max(2, round(max(image.size) * _LINE_WIDTH))
    font = ImageFont.load_default(size=max(_MIN_TEXT_SIZE, round(max(image.size) * _TEXT_SIZE)))
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(rows))]
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        _draw_box(canvas, box, colour, line)
    texts = [_text(names, record, row) for row in rows]
    _draw_labels(canvas, boxes, texts, colours, font, image.size)
    return image


def _text(names: ClassNames | None, record: RegionRecord, row: int) -> str:
    if record.lacks("objects_id") or record.lacks("objects_conf"):
        return str(row)
    phrase = names.phrase(record, row) if names else f"object {record.objects_id[row]}"
    return f"{phrase} {record.objects_conf[row]:.2f}"


def _draw_box(canvas: ImageDraw.ImageDraw, box: Rectangle, colour: str, line: int) -> None:
    """Draw a box with a thin dark rim on both sides, so that its colour shows on any ground."""
    x1, y1, x2, y2 = box
    rim = max(1, line // 3)
    canvas.rectangle((x1 - rim, y1 - rim, x2 + rim, y2 + rim), outline="black", width=line + 2 * rim)
    canvas.rectangle(box, outline=colour, width=line)


def _draw_labels(
    canvas: ImageDraw.ImageDraw,
    boxes: list[Rectangle],
    texts: list[str],
    colours: list[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    _, above, _, below = canvas.textbbox((0, 0), "Ag", font=font)
    pad = max(2, round((below - above) / 6))
    height = below - above + 2 * pad
    sizes = [(canvas.textlength(text, font=font) + 2 * pad, height) for text in texts]
    places = place_labels(boxes, sizes, *size)
    # The best last: where labels cannot but cover each other, it stays readable.
    for place, text, colour in reversed(list(zip(places, texts, colours, strict=True))):
        canvas.rectangle(place, fill=colour, outline="black")
        at = (place[0] + pad, place[1] + pad - above)
        canvas.text(at, text, fill=_text_colour(colour), font=font)


def _text_colour(ground: str) -> str:
    """Return black or white, whichever has the higher contrast by WCAG's relative luminance."""
    channels = np.array([int(ground[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"
