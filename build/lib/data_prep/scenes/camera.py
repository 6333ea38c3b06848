"""Smooth paths of a hand-held, panning or zooming camera and of moving objects.

Every path is a sum of sinusoids of time in seconds, so that it can be evaluated between frames
(motion blur) and means the same at every frame rate.
"""

from dataclasses import dataclass

import numpy as np

STYLES = ("tripod", "handheld", "pan", "zoom", "walk")
_STYLE_SHARES = (0.14, 0.28, 0.28, 0.15, 0.15)
MAX_SPEED = 180.0  # pixels a second at 384 columns: 6 a frame at 30 frames a second


@dataclass(frozen=True)
class Sinusoids:
    """sum_k amplitude[k] * sin(2 pi frequency[k] t + phase[k]); frequency in Hz."""

    amplitude: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    def __call__(self, seconds: np.ndarray | float) -> np.ndarray:
        """Values at `seconds` (any shape)."""
        angle = 2 * np.pi * self.frequency * np.asarray(seconds)[..., None] + self.phase
        return (self.amplitude * np.sin(angle)).sum(-1)

    def scaled(self, factor: float) -> "Sinusoids":
        """The same curve, `factor` times as large."""
        return Sinusoids(self.amplitude * factor, self.frequency, self.phase)

    def plus(self, other: "Sinusoids") -> "Sinusoids":
        """The sum of both curves."""
        return Sinusoids(
            np.concatenate([self.amplitude, other.amplitude]),
            np.concatenate([self.frequency, other.frequency]),
            np.concatenate([self.phase, other.phase]),
        )


@dataclass(frozen=True)
class Camera:
    """Where the camera looks: x, y in pixels of the frame, log of zoom, angle in radians, log gain.

    Args:
        style: one of STYLES.
        exposure: logarithm of the exposure gain over time.
    """

    style: str
    x: Sinusoids
    y: Sinusoids
    log_zoom: Sinusoids
    angle: Sinusoids
    exposure: Sinusoids

    def travel(self, seconds: float) -> tuple[float, float, float]:
        """Largest |x|, |y| and |log zoom| during the first `seconds`."""
        times = np.linspace(0, seconds, 128)
        values = (np.abs(curve(times)).max() for curve in (self.x, self.y, self.log_zoom))
        return tuple(float(value) for value in values)

    def speed(self, seconds: np.ndarray | float) -> np.ndarray:
        """Speed of the view in pixels a second at each time."""
        step = 1e-3
        dx = self.x(np.asarray(seconds) + step) - self.x(seconds)
        dy = self.y(np.asarray(seconds) + step) - self.y(seconds)
        return np.hypot(dx, dy) / step


def swing(rng: np.random.Generator, speed: float, reach: float) -> Sinusoids:
    """One sinusoid with peak `speed` (pixels a second) that stays within +-`reach` pixels."""
    reach = max(reach, 1e-3)
    frequency = min(speed / (2 * np.pi * reach), 1.5)
    amplitude = speed / (2 * np.pi * frequency) if frequency > 0 else 0.0
    return Sinusoids(
        np.array([min(amplitude, reach)]), np.array([frequency]), rng.uniform(0, 2 * np.pi, 1)
    )


def shake(rng: np.random.Generator, size: float) -> Sinusoids:
    """Hand-held shake of root mean square `size`: six sinusoids of 0.4 to 5 Hz, falling off."""
    frequency = np.exp(rng.uniform(np.log(0.4), np.log(5.0), 6))
    amplitude = rng.uniform(0.5, 1.0, 6) * frequency**-1.2
    amplitude *= size * np.sqrt(2.0) / np.sqrt((amplitude**2).sum())
    return Sinusoids(amplitude, frequency, rng.uniform(0, 2 * np.pi, 6))


def draw_camera(
    rng: np.random.Generator, seconds: float, reach_x: float, reach_y: float, unit: float
) -> Camera:
    """A random camera whose slow moves stay within the given reach and below MAX_SPEED.

    Args:
        rng: source of randomness.
        seconds: length of the shot.
        reach_x, reach_y: how far the view may wander from the middle, in pixels.
        unit: frame width / 384, so that all widths are filmed alike.
    """
    style = str(rng.choice(STYLES, p=_STYLE_SHARES))
    shake_size = {
        "tripod": rng.uniform(0.08, 0.3),
        "handheld": np.exp(rng.uniform(np.log(0.8), np.log(5.0))),
        "pan": rng.uniform(0.1, 1.0),
        "zoom": rng.uniform(0.1, 0.8),
        "walk": rng.uniform(1.0, 4.0),
    }[style]
    x, y = shake(rng, shake_size * unit), shake(rng, 0.7 * shake_size * unit)
    if style in ("pan", "walk", "handheld"):
        top = {"pan": 160.0, "walk": 90.0, "handheld": 25.0}[style] * unit
        speed = top * rng.uniform(0.15, 1.0)
        tilt = abs(rng.normal(0.0, 0.3))
        x = x.plus(swing(rng, speed * np.cos(tilt), reach_x))
        y = y.plus(swing(rng, speed * np.sin(tilt), reach_y))
    zoom_range = {"zoom": rng.uniform(0.08, 0.25), "walk": rng.uniform(0.03, 0.12)}.get(style, 0.0)
    zoom = Sinusoids(
        np.array([zoom_range]),
        np.array([rng.uniform(0.4, 0.9) / max(seconds, 1.0)]),
        rng.uniform(0, 2 * np.pi, 1),
    )
    roll = 0.0 if style == "tripod" else np.deg2rad(rng.uniform(0.1, 1.6))
    drift = rng.uniform(0.06, 0.16) if rng.random() < 0.35 else rng.uniform(0.0, 0.02)
    camera = Camera(
        style, x, y, zoom,
        angle=shake(rng, roll).scaled(0.6),
        exposure=Sinusoids(
            np.array([drift]), rng.uniform(0.1, 0.5, 1), rng.uniform(0, 2 * np.pi, 1)
        ),
    )  # fmt: skip
    fastest = float(camera.speed(np.linspace(0, seconds, 256)).max())
    slow_down = min(1.0, MAX_SPEED * unit / max(fastest, 1e-6))
    return Camera(
        style, x.scaled(slow_down), y.scaled(slow_down), zoom, camera.angle, camera.exposure
    )
