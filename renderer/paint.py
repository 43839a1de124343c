"""Paint on the road: opacity masks drawn through the camera, lane lines, and other markings."""

import cv2
import numpy as np

SUB = 4  # fractional bits of polygon corners
FINE = 2  # masks are drawn this many times too large and shrunk, so that thin shapes fade as they should


def fill(image, polygons, color, scale=1.0, top=0.0):
    """Fills polygons, a list of (N, 2) or a (P, N, 2), in pixels of an image drawn at `scale` from `top`."""
    if isinstance(polygons, list):
        corners = [_fixed_point(polygon, scale, top) for polygon in polygons]
    else:
        corners = list(_fixed_point(polygons, scale, top))
    cv2.fillPoly(image, corners, color, cv2.LINE_AA, SUB)


def _fixed_point(points, scale, top):
    """Pixel points as OpenCV's whole numbers; a pixel's center is at a whole coordinate at every scale."""
    offset = (scale - 1) / 2 * (1 << SUB)
    return (points * (scale * (1 << SUB)) + (offset, offset - top * scale * (1 << SUB))).astype(np.int32)


class Mask:
    """An opacity mask of the ground, from row `top` of the image down."""

    def __init__(self, view, top):
        self.view, self.top = view, top
        self.canvas = np.zeros(((view.height - top) * FINE, view.width * FINE), np.uint8)

    def strokes(self, u, starts, ends, width: float, value: float, knots: int = 4):
        """Bands of the road from each start to each end, `width` metres wide around u (a function of z)."""
        starts, ends = np.maximum(starts, self.view.z[0]), np.minimum(ends, self.view.z[-1])
        seen = ends > starts
        if not seen.any():
            return
        starts, ends = starts[seen][:, None], ends[seen][:, None]
        z = starts + (ends - starts) * np.linspace(0, 1, knots)
        middle = u(z)
        left = self.view.project((middle - width / 2).ravel(), z.ravel()).reshape(*z.shape, 2)
        right = self.view.project((middle + width / 2).ravel(), z.ravel()).reshape(*z.shape, 2)
        outlines = np.concatenate([left, right[:, ::-1]], 1)
        # a band thinner than a pixel must also get fainter, since filling covers every pixel that it touches
        thin = np.minimum(1, width * self.view.scale(z.mean(1)) * FINE / 1.5)
        sixths = np.ceil(thin * 6)
        for share in np.unique(sixths):
            fill(self.canvas, outlines[sixths == share], value * share / 6, FINE, self.top)

    def band(self, u, z0: float, z1: float, width: float, value: float):
        """One band from z0 to z1 around u (a number or a function of z), in pieces that follow the bends."""
        near, far = max(z0, self.view.z[0]), min(z1, self.view.z[-1])
        if far > near:
            cuts = np.geomspace(near, far, 2 + int(np.log(far / near) / 0.3))
            self.strokes(u if callable(u) else lambda z: u + 0 * z, cuts[:-1], cuts[1:], width, value, 6)

    def line(self, u: np.ndarray, z: np.ndarray, width: float, value: float, across: float = 1.0):
        """A thin line through road points, as wide as `width` metres is at its middle.

        `across` is the share of it that runs across the road, where the slanting view makes it thinner.
        """
        points = self.view.project(u, np.clip(z, self.view.z[0], self.view.z[-1]))
        middle = float(np.median(z))
        slant = 1 + across * (min(1.0, self.view.camera_height / middle) - 1)
        thickness = width * slant * self.view.scale(middle) * FINE
        points = _fixed_point(points, FINE, self.top)
        shade = value * min(1.0, thickness)
        cv2.polylines(self.canvas, [points], False, shade, max(1, round(thickness)), cv2.LINE_AA, SUB)

    def opacity(self) -> np.ndarray:
        """(h, W) float32 in 0..1."""
        size = (self.view.width, self.view.height - self.top)
        return np.float32(cv2.resize(self.canvas, size, interpolation=cv2.INTER_AREA)) * np.float32(1 / 255)


def paint_line(mask: Mask, line):
    """Draws one lane line; value 255 is opaque paint."""
    near, far = mask.view.z[0], mask.view.z[-1]
    value = 255 * line.strength
    apart = 0.75 * line.width + 0.06 if line.kind in ("double", "mixed") else 0.0
    if line.kind in ("solid", "double", "mixed"):
        mask.band(lambda z: line.u(z) - apart, near, far, line.width, value)
    if line.kind == "double":
        mask.band(lambda z: line.u(z) + apart, near, far, line.width, value)
    starts = near - (near + line.phase) % line.period + line.period * np.arange(60)
    if line.kind in ("dashed", "mixed"):
        mask.strokes(lambda z: line.u(z) + apart, starts, starts + line.dash, line.width, value)
    if line.kind == "dots":  # Botts' dots: four to a stroke; 2 cm high, so they look longer than they are
        at = (starts[:, None] + np.arange(4) * line.dash / 3).ravel()
        ends = at + 0.12 + 0.02 * at / mask.view.camera_height
        mask.strokes(line.u, at, ends, 0.11, min(255, 1.2 * value), knots=2)


def kept_paint(road, streaks, blotches) -> np.ndarray:
    """float32 share of the paint that is left at each pixel, given noise along the road and in spots."""
    if road.wear < 0.03:
        return np.ones_like(streaks)
    return np.clip((0.5 * blotches + 0.7 * streaks + 0.45 - road.wear) * 3 + 1, 0.08, 1)


def paint_ground(rng, ground, view, road, top, kept) -> np.ndarray:
    """Blends symbols and lane lines into `ground` (3, h, W), and returns it as it was before the lines.

    `kept` is the share of paint left.
    """
    white = rng.uniform(190, 300) * np.float32([1, rng.uniform(0.97, 1.02), rng.uniform(0.9, 1.03)])
    yellow = rng.uniform(170, 260) * np.float32([1, rng.uniform(0.62, 0.85), rng.uniform(0.1, 0.5)])
    mask = Mask(view, top)
    _paint_symbols(rng, mask, road)
    _blend(ground, mask, kept, white)
    bare = ground.copy()
    for color, rgb in (("white", white), ("yellow", yellow)):
        mask = Mask(view, top)
        for line in road.lines:
            if line.color == color:
                paint_line(mask, line)
        _blend(ground, mask, kept, rgb)
    return bare


def _blend(ground, mask, kept, rgb):
    """Blends what the mask holds into `ground` in a color."""
    if not mask.canvas.any():
        return
    alpha = mask.opacity() * kept
    for plane, value in zip(ground, rgb, strict=True):
        plane += alpha * (value - plane)


def _paint_symbols(rng, mask, road):
    """Arrows, letters and crosswalks: paint that is no lane line."""
    view, near = mask.view, mask.view.z[0]
    value = rng.uniform(80, 255)
    center = rng.choice(road.lane_centers)
    z = near * rng.uniform(1.3, 4)
    if rng.random() < 0.08:  # an arrow
        mask.band(center, z, z + 3, 0.15, value)
        bend = rng.choice([-1, 0, 1])
        tip_u = center + 0.5 * bend + np.array([-0.45, 0.45, 0.1 * bend])
        tip = view.project(tip_u, z + np.array([3, 3, 5]) - 0.4 * abs(bend))
        fill(mask.canvas, [tip], value, FINE, mask.top)
    if rng.random() < 0.05:  # letters, as upright and level strokes
        for letter in np.arange(-1.2, 1.2, 0.6):
            for stroke in rng.uniform(0, 0.45, 2):
                mask.band(center + letter + stroke, z, z + 2.4, 0.1, value)
            for rung in rng.uniform(0, 2.2, 2):
                mask.band(center + letter + 0.22, z + rung, z + rung + 0.3, 0.45, value)
    if rng.random() < 0.04:  # a crosswalk with its stop line
        for u in np.arange(road.left, road.right, 1.0):
            mask.band(u, z + 3, z + 6, 0.5, value)
        mask.band((road.left + road.right) / 2, z + 1, z + 1.4, road.right - road.left, value)
