"""What everything is drawn with: polygons with subpixel corners, opacity masks of the ground, noise, blending."""

import cv2
import numpy as np

from renderer.camera import Camera

SUBPIXEL_BITS = 4  # fractional bits of polygon corners
SUPERSAMPLING = 2  # masks are drawn this many times too large and shrunk, so that thin shapes fade as they should


def fill_polygons(image: np.ndarray, polygons, color, scale: float = 1.0, top: int = 0) -> None:
    """Fill polygons, a list of (N, 2) or a (P, N, 2), in pixels of an image drawn at `scale` from row `top`."""
    if isinstance(polygons, list):
        corners = [to_fixed_point(polygon, scale, top) for polygon in polygons]
    else:
        corners = list(to_fixed_point(polygons, scale, top))
    cv2.fillPoly(image, corners, color, cv2.LINE_AA, SUBPIXEL_BITS)


def to_fixed_point(points: np.ndarray, scale: float = 1.0, top: int = 0) -> np.ndarray:
    """Pixel points as OpenCV's whole numbers; a pixel's center is at a whole coordinate at every scale."""
    if scale == 1 and not top:
        return (points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    offset = (scale - 1) / 2 * (1 << SUBPIXEL_BITS)
    shift = (offset, offset - top * scale * (1 << SUBPIXEL_BITS))
    return (points * (scale * (1 << SUBPIXEL_BITS)) + shift).astype(np.int32)


class OpacityMask:
    """An opacity mask of the ground, from row `top` of the image down; values 0..255, lengths in metres."""

    def __init__(self, camera: Camera, top: int):
        self.camera, self.top = camera, top
        self.canvas = np.zeros(((camera.height - top) * SUPERSAMPLING, camera.width * SUPERSAMPLING), np.uint8)

    def draw_strokes(self, u, starts, ends, width: float, value: float, knots: int = 4) -> None:
        """Bands of the road from each start to each end, `width` wide around u (a function of z)."""
        z_near, z_far = self.camera.depths[0], self.camera.depths[-1]
        starts, ends = np.maximum(starts, z_near), np.minimum(ends, z_far)
        visible = ends > starts
        if not visible.any():
            return
        starts, ends = starts[visible][:, None], ends[visible][:, None]
        z = starts + (ends - starts) * np.linspace(0, 1, knots)
        middle = u(z)
        left = self.camera.project((middle - width / 2).ravel(), z.ravel()).reshape(*z.shape, 2)
        right = self.camera.project((middle + width / 2).ravel(), z.ravel()).reshape(*z.shape, 2)
        outlines = np.concatenate([left, right[:, ::-1]], 1)
        # a band thinner than a pixel must also get fainter, since filling covers every pixel that it touches
        coverage = np.minimum(1, width * self.camera.pixels_per_metre(z.mean(1)) * SUPERSAMPLING / 1.5)
        sixths = np.ceil(coverage * 6)
        for share in np.unique(sixths):
            fill_polygons(self.canvas, outlines[sixths == share], value * share / 6, SUPERSAMPLING, self.top)

    def draw_band(self, u, z0: float, z1: float, width: float, value: float) -> None:
        """One band from z0 to z1 around u (a number or a function of z), in pieces that follow the bends."""
        near, far = max(z0, self.camera.depths[0]), min(z1, self.camera.depths[-1])
        if far > near:
            cuts = np.geomspace(near, far, 2 + int(np.log(far / near) / 0.3))
            self.draw_strokes(u if callable(u) else lambda z: u + 0 * z, cuts[:-1], cuts[1:], width, value, 6)

    def draw_polyline(self, u: np.ndarray, z: np.ndarray, width: float, value: float, across: float = 1.0) -> None:
        """A thin line through road points, as wide as `width` is at its middle.

        `across` is the share of it that runs across the road, where the slanting view makes it thinner.
        """
        points = self.camera.project(u, np.clip(z, self.camera.depths[0], self.camera.depths[-1]))
        middle = float(np.median(z))
        foreshortening = 1 + across * (min(1.0, self.camera.camera_height / middle) - 1)
        thickness = width * foreshortening * self.camera.pixels_per_metre(middle) * SUPERSAMPLING
        points = to_fixed_point(points, SUPERSAMPLING, self.top)
        shade = value * min(1.0, thickness)
        cv2.polylines(self.canvas, [points], False, shade, max(1, round(thickness)), cv2.LINE_AA, SUBPIXEL_BITS)

    def opacity(self) -> np.ndarray:
        """(h, W) float32 in 0..1."""
        size = (self.camera.width, self.camera.height - self.top)
        return np.float32(cv2.resize(self.canvas, size, interpolation=cv2.INTER_AREA)) * np.float32(1 / 255)


def noise_texture(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """(size, size) float32 in about -1..1: noise of three sizes, mean 0."""
    layers = np.zeros((size, size), np.float32)
    for cells, weight in ((size, 0.5), (size // 4, 0.7), (size // 16, 0.8)):
        grid = rng.random((cells, cells), dtype=np.float32) - 0.5
        layers += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_LINEAR)
    return layers


def sample_noise(noise: np.ndarray, across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Noise at points (h, w) of a texture whose tile repeats; `along` may be (h, 1)."""
    along = np.broadcast_to(along, across.shape)
    return cv2.remap(noise, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def blend(image: np.ndarray, colors: np.ndarray, opacity: np.ndarray) -> None:
    """Lay `colors` (uint8, any size) over the image in place with `opacity` (float32 in 0..1, any size)."""
    size = (image.shape[1], image.shape[0])
    opacity = cv2.resize(opacity, size, interpolation=cv2.INTER_LINEAR)
    colors = cv2.resize(colors, size, interpolation=cv2.INTER_LINEAR)
    cv2.blendLinear(colors, image, opacity, 1 - opacity, dst=image)
