"""Weather and time of day of a scene."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Weather:
    """Colors are RGB in 0..255, as float tuples."""

    night: bool
    sun: float  # 0 under clouds, 1 under a clear sky
    sky_top: tuple
    haze: tuple  # the sky at the horizon, and what far objects fade into
    visibility_m: float  # metres after which a third of the contrast is left
    ground_tint: tuple  # factors of the ground's colors
    wet: bool
    rain: bool
    illumination: float  # of objects: 0.1 silhouettes against the sky, 1 fully lit

    def fade(self, color, z: float) -> list[float]:
        """The color of an object at distance z."""
        air = math.exp(-z / self.visibility_m)
        return [float(c) * air + h * (1 - air) for c, h in zip(color, self.haze, strict=True)]


def sample_weather(rng: np.random.Generator) -> Weather:
    """Mostly clear Californian days, with dull days, haze, rain and a tenth of nights."""
    night = bool(rng.random() < 0.1)
    sun = 0.0 if night else float(np.clip(rng.normal(0.75, 0.4), 0, 1))
    rain = bool(rng.random() < 0.06)
    brightness = 255 * rng.uniform(0.45, 1) ** 0.5
    blue = sun * rng.uniform(0.1, 0.5)  # clear skies are deep blue above, pale at the horizon
    haze = brightness * np.array([1 - 0.35 * blue, 1 - 0.12 * blue, 1 + 0.05 * blue]) + rng.normal(0, 6, 3)
    top = brightness * rng.uniform(0.65, 1.0) * np.array([1 - blue, 1 - 0.45 * blue, 1.0])
    if not night and rng.random() < 0.06:  # dusk
        haze, top = np.array([235, 165, 110]) * rng.uniform(0.6, 1), top * 0.6
    visibility = np.exp(rng.uniform(np.log(250), np.log(4000))) if rng.random() < 0.93 else rng.uniform(40, 150)
    tint = rng.uniform(0.75, 1.25) * (np.ones(3) + rng.normal(0, 0.03, 3))
    return Weather(
        night=night,
        sun=sun,
        sky_top=tuple(np.clip(top, 0, 255).tolist()),
        haze=tuple(np.clip(haze, 0, 255).tolist()),
        visibility_m=float(visibility),
        ground_tint=tuple(np.clip(tint, 0.4, 1.3)),
        wet=rain or bool(rng.random() < 0.04),
        rain=rain,
        illumination=float(0.12 + 0.88 * rng.random() ** 1.5),
    )
