"""Compose one built-in scene and film it: backdrop, things before it, tone, moving camera."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_prep.scenes import camera as camera_lib
from data_prep.scenes import dead_leaves, photographs

# Cycled within each split, so that every kind has its share of any number of scenes.
KINDS = (
    "photo", "leaves_parallax", "photo_objects", "horizon", "photo", "studio",
    "photo", "leaves", "photo_objects", "horizon", "photo", "leaves_parallax",
)  # fmt: skip
FILMED_KINDS = frozenset({"photo", "photo_objects"})  # kinds whose backdrop is one photograph
_CAPTION_LETTERS = "aeiounrstlmdhkpgbvcwyfj"


@dataclass(frozen=True)
class Sprite:
    """A thing before the backdrop: premultiplied RGBA float32 [S, S, 4] and how it moves.

    x, y: place at rest, in frame pixels from the middle of the view; depth: how far it follows
    the camera (1 as the backdrop, more when nearer); spin in radians a second.
    """

    image: np.ndarray
    x: float
    y: float
    depth: float
    move_x: camera_lib.Sinusoids
    move_y: camera_lib.Sinusoids
    angle: float
    spin: float


@dataclass(frozen=True)
class Scene:
    """Everything that `film` needs; canvas float32 RGB [H, W, 3], `step` canvas pixels a pixel."""

    kind: str
    canvas: np.ndarray
    step: float
    sprites: tuple[Sprite, ...]
    camera: camera_lib.Camera
    shutter: float
    overlay: np.ndarray | None
    look: str
    photographs: tuple[str, ...]


def _tone(rng: np.random.Generator, mean: float) -> tuple[str, float, float, float, float]:
    """A random look for a canvas of the given mean: name, black, white, gamma, saturation."""
    look = str(
        rng.choice(
            ["normal", "dark", "low_contrast", "high_key", "contrasty"],
            p=[0.52, 0.14, 0.12, 0.12, 0.10],
        )
    )
    # A bright canvas made brighter is white, a dark one made darker black: no detail to judge.
    if (look == "high_key" and mean > 0.5) or (look == "dark" and mean < 0.3):
        look = "normal"
    low, high, gamma = {
        "normal": (rng.uniform(0, 0.04), rng.uniform(0.9, 1.02), rng.uniform(0.85, 1.25)),
        "dark": (rng.uniform(0, 0.02), rng.uniform(0.25, 0.7), rng.uniform(1.1, 1.7)),
        "low_contrast": (rng.uniform(0.12, 0.35), rng.uniform(0.65, 0.85), rng.uniform(0.8, 1.1)),
        "high_key": (rng.uniform(0.05, 0.2), rng.uniform(1.0, 1.15), rng.uniform(0.5, 0.75)),
        "contrasty": (rng.uniform(-0.08, 0.0), rng.uniform(1.02, 1.12), rng.uniform(1.0, 1.3)),
    }[look]
    saturation = 0.0 if rng.random() < 0.03 else rng.uniform(0.6, 1.25)
    return look, low, high, gamma, saturation


def _apply_tone(
    image: np.ndarray, tone: tuple[str, float, float, float, float], balance: np.ndarray
) -> np.ndarray:
    """`image` float32 [..., 3] through the look and the white balance [3]."""
    _, low, high, gamma, saturation = tone
    image = np.clip(image, 0, 1.2)
    cv2.pow(image, gamma, image)
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    image = grey[..., None] + saturation * (image - grey[..., None])
    return (low + (high - low) * np.maximum(image, 0) * balance).astype(np.float32)


def _photo_canvas(
    rng: np.random.Generator, path: str, size: tuple[int, int], zoom_in: float
) -> tuple[np.ndarray, float]:
    """The photograph reduced by area so that a part of it fills the frame, and the step."""
    image = photographs.load_photograph(path)
    width, height = size
    # Never above the photograph's own resolution: a step below 1 would make pristine frames soft.
    step = max(rng.uniform(1.0, 1.25), 0.98 * np.exp(zoom_in))
    fill = max(width * step / image.shape[1], height * step / image.shape[0])
    if fill < 1:
        part = rng.uniform(max(fill, 0.45), 1.0)  # share of the photograph seen at once
        factor = fill / part
        if factor < 1:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    else:
        step = max(step / fill, 0.98)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return image.astype(np.float32) / 255.0, float(step)


def _random_part(
    rng: np.random.Generator, image: np.ndarray, height: float, width: float
) -> np.ndarray:
    """A random cut of at most the given size, so that two shots of a photograph differ."""
    tall, wide = min(int(height), image.shape[0]), min(int(width), image.shape[1])
    top = int(rng.integers(image.shape[0] - tall + 1))
    left = int(rng.integers(image.shape[1] - wide + 1))
    return image[top : top + tall, left : left + wide]


def _sprite(
    rng: np.random.Generator,
    textures: Sequence[str],
    size: tuple[int, int],
    travel: tuple[float, float],
    *,
    near: bool,
    unit: float,
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Colour, coverage and placing of one thing; `near` ones are static and in the foreground."""
    width, height = size
    radius = rng.uniform(0.14, 0.4) * height if near else rng.uniform(0.06, 0.26) * height
    colour, mask = dead_leaves.leaf(rng, textures, radius, 0.0)
    # The camera follows what moves, so that it stays in view; the foreground sweeps past.
    depth = rng.uniform(1.2, 1.7) if near else rng.uniform(0.1, 0.5)
    if near:
        still = camera_lib.Sinusoids(np.zeros(1), np.zeros(1), np.zeros(1))
        move_x = move_y = still
        x = rng.uniform(-1, 1) * (width / 2 + depth * travel[0])
        y = rng.uniform(0.1, 1) * (height / 2 + depth * travel[1])
    else:
        speed = np.exp(rng.uniform(np.log(8.0), np.log(130.0))) * unit
        tilt = rng.uniform(0, 2 * np.pi)
        move_x = camera_lib.swing(rng, abs(speed * np.cos(tilt)), rng.uniform(0.15, 0.6) * width)
        move_y = camera_lib.swing(rng, abs(speed * np.sin(tilt)), rng.uniform(0.1, 0.4) * height)
        x, y = rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.4, 0.4) * height
    spin = 0.0 if near or rng.random() < 0.4 else rng.uniform(-0.8, 0.8)
    place = {"x": x, "y": y, "depth": depth, "move_x": move_x, "move_y": move_y,
             "angle": rng.uniform(-0.3, 0.3), "spin": spin}  # fmt: skip
    return colour, mask, place


def _overlay(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray | None:
    """Black bars or a caption, as uploads have them: RGBA float32 [H, W, 4] or None."""
    width, height = size
    chance = rng.random()
    if chance > 0.2:
        return None
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    if chance < 0.07:
        bar = int(rng.uniform(0.05, 0.14) * height)
        draw.rectangle((0, 0, width, bar), fill=(0, 0, 0, 255))
        draw.rectangle((0, height - bar, width, height), fill=(0, 0, 0, 255))
    else:
        letters = list(_CAPTION_LETTERS)
        words = ("".join(rng.choice(letters, rng.integers(2, 8))) for _ in range(4))
        fill = (255, 255, 255, 255) if rng.random() < 0.7 else (245, 210, 40, 255)
        font = ImageFont.load_default(size=float(height * rng.uniform(0.045, 0.09)))
        place = (width / 2, height * rng.choice([0.12, 0.8, 0.88]))
        draw.text(place, " ".join(words), fill=fill, font=font, anchor="mm",
                  stroke_width=int(rng.integers(0, 2)), stroke_fill=(0, 0, 0, 255))  # fmt: skip
    return np.asarray(layer, np.float32) / 255.0


def compose(
    rng: np.random.Generator,
    kind: str,
    filmed: photographs.Photograph | None,
    palette: Sequence[photographs.Photograph],
    size: tuple[int, int],
    seconds: float,
) -> Scene:
    """Draw one scene.

    Args:
        rng: source of all randomness.
        kind: one of KINDS.
        filmed: the photograph that is the backdrop, for FILMED_KINDS.
        palette: photographs that textures are cut from.
        size: (width, height) of the frames.
        seconds: length.
    """
    width, height = size
    unit = width / 384
    textures = [photograph.path for photograph in palette]
    reach_x, reach_y = 0.75 * width, 0.3 * height
    if filmed is not None:  # a photograph lets the camera go less far; its border is mirrored
        tall, wide = photographs.load_photograph(filmed.path).shape[:2]
        reach_x = np.clip(0.4 * (wide - width), 0.08 * width, reach_x)
        reach_y = np.clip(0.4 * (tall - height), 0.06 * height, reach_y)
    shot = camera_lib.draw_camera(rng, seconds, reach_x, reach_y, unit)
    travel_x, travel_y, zoom = shot.travel(seconds)
    balance = np.exp(rng.normal(0, 0.05, 3)).astype(np.float32)
    # The blur of lens and pixels: real footage is rarely as sharp as its pixels allow, and now
    # and then plainly soft, which alone does not make it a degraded copy.
    optics = rng.choice([rng.uniform(0.35, 0.6), rng.uniform(0.6, 0.9), rng.uniform(0.9, 1.4)],
                        p=[0.5, 0.35, 0.15])  # fmt: skip
    shallow = 0.0
    if kind in ("leaves_parallax", "studio") or (kind == "photo_objects" and rng.random() < 0.4):
        shallow = rng.uniform(1.0, 2.6) * unit if rng.random() < 0.45 else 0.0
    if filmed is not None:
        canvas, step = _photo_canvas(rng, filmed.path, size, zoom)
        spread = step * np.exp(zoom) * 1.06
        canvas = _random_part(rng, canvas, spread * (height + 2 * travel_y),
                              spread * (width + 2 * travel_x))  # fmt: skip
    else:
        step = max(1.0, 0.98 * np.exp(zoom))
        spread = step * np.exp(zoom) * 1.06
        canvas_w = int(spread * (width + 2 * travel_x)) + 8
        canvas_h = int(spread * (height + 2 * travel_y)) + 8
        sparse = kind == "studio"  # a plain wall with a few things on it
        canvas = dead_leaves.leaves_canvas(
            rng, textures, canvas_h, canvas_w,
            smallest=np.exp(rng.uniform(np.log(4.5), np.log(14.0))) * (3 if sparse else 1) * unit,
            coverage=rng.uniform(0.15, 0.5) if sparse else 2.5,
            horizon=rng.uniform(0.25, 0.6) if kind == "horizon" else None,
        )  # fmt: skip
    tone = _tone(rng, float(canvas.mean()))
    canvas = _apply_tone(canvas, tone, balance)
    canvas = cv2.GaussianBlur(canvas, (0, 0), float(np.hypot(optics, shallow) * step))

    movers, near = {
        "photo": (0, 0), "leaves": (0, 0),
        "photo_objects": (int(rng.integers(1, 4)), 0),
        "leaves_parallax": (int(rng.integers(2, 6)), int(rng.integers(2, 6))),
        "horizon": (int(rng.integers(0, 3)), int(rng.integers(0, 3))),
        "studio": (int(rng.integers(4, 9)), int(rng.integers(0, 3))),
    }[kind]  # fmt: skip
    sprites = []
    for index in range(movers + near):
        foreground = index >= movers
        colour, mask, place = _sprite(
            rng, textures, size, (travel_x, travel_y), near=foreground, unit=unit
        )
        colour = _apply_tone(colour, tone, balance)
        image = np.concatenate([colour * mask[..., None], mask[..., None]], axis=-1)
        defocus = rng.uniform(1.5, 5.0) * unit if foreground and rng.random() < 0.5 else 0.0
        sigma = float(np.hypot(optics, defocus))
        margin = int(3 * sigma) + 1
        image = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
        sprites.append(Sprite(image=cv2.GaussianBlur(image, (0, 0), sigma), **place))
    used = {photograph.id for photograph in palette} if kind != "photo" else set()
    used |= {filmed.id} if filmed is not None else set()
    return Scene(
        kind=kind, canvas=canvas, step=float(step), sprites=tuple(sprites), camera=shot,
        shutter=float(rng.uniform(0.25, 0.5)) if rng.random() < 0.4 else 0.0,
        overlay=_overlay(rng, size), look=tone[0], photographs=tuple(sorted(used)),
    )  # fmt: skip


def _view(scene: Scene, seconds: float, size: tuple[int, int]) -> np.ndarray:
    """The frame at one instant: float32 RGB [height, width, 3], before exposure and overlay."""
    width, height = size
    shot = scene.camera
    x, y, roll = float(shot.x(seconds)), float(shot.y(seconds)), float(shot.angle(seconds))
    zoom = float(np.exp(shot.log_zoom(seconds)))
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    cos, sin = np.cos(roll), np.sin(roll)
    turn = np.array([[cos, -sin], [sin, cos]])

    matrix = turn * (scene.step / zoom)
    target = (np.array(scene.canvas.shape[1::-1]) - 1) / 2 + np.array([x, y]) * scene.step
    affine = np.concatenate([matrix, (target - matrix @ middle)[:, None]], axis=1)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    frame = cv2.warpAffine(
        scene.canvas, affine, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    for sprite in scene.sprites:
        rest = np.array([
            sprite.x + float(sprite.move_x(seconds)) - sprite.depth * x,
            sprite.y + float(sprite.move_y(seconds)) - sprite.depth * y,
        ])  # fmt: skip
        scale = zoom**sprite.depth / np.exp(np.abs(shot.log_zoom.amplitude).sum() * sprite.depth)
        centre = middle + turn.T @ rest * zoom
        half = (sprite.image.shape[0] - 1) / 2
        angle = sprite.angle + sprite.spin * seconds - roll
        spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
        extent = half * scale * 1.4143 + 1
        x0, y0 = (max(int(c - extent), 0) for c in centre)
        x1 = min(int(centre[0] + extent) + 2, width)
        y1 = min(int(centre[1] + extent) + 2, height)
        if x0 >= x1 or y0 >= y1:
            continue
        shift = half + spin @ (np.array([x0, y0]) - centre)
        affine = np.concatenate([spin, shift[:, None]], axis=1)
        layer = cv2.warpAffine(sprite.image, affine, (x1 - x0, y1 - y0), flags=flags)
        window = frame[y0:y1, x0:x1]
        window *= 1 - layer[..., 3:]
        window += layer[..., :3]
    return frame


def film(scene: Scene, fps: int, num_frames: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Frames of the scene, uint8 RGB [height, width, 3], one after another.

    Fast moves are blurred along the path while the shutter is open.
    """
    for index in range(num_frames):
        seconds = index / fps
        moved = float(scene.camera.speed(seconds)) / fps * scene.shutter
        samples = int(np.clip(np.ceil(moved), 1, 4))
        frame = _view(scene, seconds, size)
        for sample in range(1, samples):
            frame += _view(scene, seconds + scene.shutter / fps * sample / samples, size)
        gain = 255.0 / samples * np.exp(float(scene.camera.exposure(seconds)))
        frame = cv2.multiply(frame, (gain, gain, gain, 0))
        if scene.overlay is not None:
            cover = scene.overlay[..., 3:]
            frame = frame * (1 - cover) + 255.0 * cover * scene.overlay[..., :3]
        yield np.clip(np.rint(frame), 0, 255).astype(np.uint8)
