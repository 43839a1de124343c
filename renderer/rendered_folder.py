"""A folder of rendered images: its manifest, which requests it is to hold, and how one takes another's place."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.files import lock

SCENES_MANIFEST, DRIVES_MANIFEST = "manifest.json", "drives.json"  # written last: what a finished folder holds


def render_into(root: Path, manifest_name: str, request: dict[str, int], is_complete: Callable[[], bool],
                check_replaceable: Callable[[], None], render: Callable[[], None]) -> None:
    """Call `render` unless the folder is complete; of several processes one renders and the others wait for it.

    `check_replaceable` raises ValueError where the folder holds something else. What is replaced is named on stderr.
    """
    if is_complete():
        return
    check_replaceable()
    with lock(root, "rendering into this folder"):
        if not is_complete():
            _tell_what_is_replaced(root, read_json(root / manifest_name), request)
            render()


def _tell_what_is_replaced(root: Path, written: Any, request: dict[str, int]) -> None:
    """Print by what a finished folder differs from the request that takes its place."""
    if isinstance(written, dict) and "renderer" in written and written != request:
        changes = ", ".join(f"{name} {written.get(name)} -> {value}" for name, value in request.items()
                            if written.get(name) != value)
        print(f"{root}: rendered anew, in place of what is there ({changes})", file=sys.stderr)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is no such file or it is broken."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return None
