"""A window that shows images, where there is a display."""

import subprocess
import sys

import cv2
import numpy as np
from tqdm import tqdm

TITLE = "lanes"
LONGEST_SIDE_PX = 1280
WAIT_MS, POLL_MS = 20, 1
QUIT_KEYS, NO_KEY = (ord("q"), 27), 0xFF  # 27: escape
OPEN_A_WINDOW = f"import cv2; cv2.namedWindow('{TITLE}'); cv2.destroyAllWindows()"


class Window:
    """Shows images; `closed` once the user has closed it or pressed q."""

    def __init__(self):
        self.opened = self.closed = False

    def show(self, image: np.ndarray, wait: bool) -> None:
        """Show an image (height, width, 3) in RGB, with wait until a key is pressed."""
        if not self.opened:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)  # one that can be resized
        scale = min(1.0, LONGEST_SIDE_PX / max(image.shape[:2]))
        size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
        if not self.opened:
            cv2.resizeWindow(TITLE, *size)
            self.opened = True
        # A window that shrinks a picture itself makes its lines jagged.
        cv2.imshow(TITLE, cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR))
        key = NO_KEY
        while not self.closed:
            key = cv2.waitKey(WAIT_MS if wait else POLL_MS) & 0xFF
            self.closed = key in QUIT_KEYS or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
            if key != NO_KEY or not wait:
                break


def open_window() -> Window | None:
    """A window, or None where there is no display, which is reported on stderr."""
    if has_display():
        return Window()
    tqdm.write("--show: no display here on which OpenCV can open a window; going on without one", file=sys.stderr)
    return None


def has_display() -> bool:
    """Whether a window can be opened: tried in a process of its own, since without a display Qt ends the process."""
    try:
        return not subprocess.run([sys.executable, "-c", OPEN_A_WINDOW], capture_output=True, timeout=30).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False
