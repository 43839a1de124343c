"""The camera that the settings describe: checked as a whole, read from a file of its own, fitted to an image's size."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from config import CameraConfig, Config, ConfigError, config_from_dict
from config_checks import parse_yaml
from geometry.ground_plane import PinholeCamera

MIN_FOV, MAX_FOV = 10.0, 175.0  # degrees: below are telephoto lenses and radians
MIN_HEIGHT_M = 0.2
MAX_DISTORTION = 5  # coefficients
SAME_SHAPE = 0.02  # by which the aspect of an image may differ from the calibrated one
MAX_TEXT = 100_000  # characters of a camera's file


def with_camera_file(config: Config, path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The settings with the camera of a YAML file, its keys alone or in a section `camera`, then the overrides of it.

    Raises ConfigError in one line for a file that is none and for values as load_config does; FileNotFoundError.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file of a camera") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{path}: {len(text)} characters are no camera; expected keys such as fov and height")
    values = parse_yaml(text, str(path))
    if isinstance(values, dict) and isinstance(values.get("camera"), dict):
        values = values["camera"]
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{path}: expected keys such as 'fov: 60' and 'height: 1.4'")
    camera = config_from_dict({"camera": values}, str(path)).camera
    named = {override.partition("=")[0].partition(".")[2] for override in overrides}
    camera = dataclasses.replace(camera, **{key: getattr(config.camera, key) for key in named})
    check_camera(camera, f"{path}, with {' '.join(overrides)}" if overrides else str(path))
    return dataclasses.replace(config, camera=camera)


def check_camera(camera: CameraConfig, source: str = "settings") -> bool:
    """Whether a camera is described, by which metres can be computed. Raises ConfigError for one that cannot be."""
    def refuse(reason: str) -> None:
        raise ConfigError(f"{source}: {reason}")

    if not (camera.fov or camera.matrix or camera.height or camera.size or camera.distortion):
        return False
    if camera.fov and camera.matrix:
        refuse("camera.fov and camera.matrix say the same; give one of them")
    if not camera.fov and not camera.matrix:
        refuse("a camera needs camera.fov (degrees across the image) or camera.matrix ([fx, fy, cx, cy] in pixels)")
    if camera.fov and camera.fov < MIN_FOV:
        refuse(f"camera.fov is {camera.fov:g}; expected {MIN_FOV:g} to {MAX_FOV:g} degrees (not radians)")
    if camera.matrix:
        _check_matrix(camera, refuse)
    if not camera.height:
        refuse("a camera needs camera.height, metres from the road to the lens")
    if camera.height < MIN_HEIGHT_M:
        refuse(f"camera.height is {camera.height:g}; expected {MIN_HEIGHT_M:g} to 10 metres above the road")
    if len(camera.distortion) > MAX_DISTORTION:
        refuse(f"camera.distortion has {len(camera.distortion)} numbers; expected up to {MAX_DISTORTION}: "
               "k1, k2, p1, p2, k3")
    return True


def _check_matrix(camera: CameraConfig, refuse) -> None:
    if len(camera.matrix) != 4:
        refuse(f"camera.matrix has {len(camera.matrix)} numbers; expected four: fx, fy, cx, cy in pixels")
    if len(camera.size) != 2:
        refuse("camera.matrix needs camera.size, [width, height] in pixels of the images that it was made for")
    fx, fy, cx, cy = camera.matrix
    width, height = camera.size
    if not (0.1 * width <= fx <= 20 * width and 0.1 * width <= fy <= 20 * width):
        refuse(f"camera.matrix has focal lengths of {fx:g} and {fy:g}; expected pixels of an image {width} px wide")
    if not (-width <= cx <= 2 * width and -height <= cy <= 2 * height):
        refuse(f"camera.matrix has its center at ({cx:g}, {cy:g}); expected pixels in an image of {width}x{height}")


def pinhole_camera(camera: CameraConfig, size_px: tuple[int, int]) -> PinholeCamera:
    """The camera for images of size_px (width, height). Raises ValueError where its matrix is for another shape."""
    width, height = size_px
    if camera.fov:
        pinhole = PinholeCamera.from_fov(math.radians(camera.fov), width, height)
    else:
        own_width, own_height = camera.size
        if abs(width * own_height / (height * own_width) - 1) > SAME_SHAPE:
            raise ValueError(f"the image is {width}x{height}, and camera.matrix is for {own_width}x{own_height}")
        pinhole = PinholeCamera(*camera.matrix).scaled(width / own_width, height / own_height)
    return dataclasses.replace(pinhole, distortion=camera.distortion)
