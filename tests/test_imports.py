"""The rooms: who may know whom, and that importing one does nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {path.stem: path for path in sorted(ROOT.glob("*.py"))}
SCENES = {name for name in MODULES if name.startswith("scene")}
ANYTHING = set(MODULES)
ALLOWED = {
    "bezier": set(),
    "config": set(),
    "metrics": set(),
    "culane": set(),
    "guard": {"metrics"},
    "distributed": set(),
    "file_lock": set(),
    "image_size": set(),
    "memory": set(),
    "label_files": set(),
    "muon": set(),
    "formats_json": {"label_files"},
    "entries": {"label_files"},
    "formats": {"entries", "formats_json", "label_files"},
    "lanes": {"bezier"},
    "losses_fixed": {"bezier", "lanes"},
    "raster": set(),
    "model": {"bezier", "lanes", "raster"},
    "fusion": {"model"},
    "augment": {"bezier", "config", "lanes", "raster"},
    "dataset": {"bezier", "entries", "formats", "image_size", "label_files", "lanes", "raster"},
    "submission": {"bezier", "formats", "label_files", "lanes", "metrics"},
    "scores": {"culane", "formats", "formats_json", "label_files", "metrics", "submission"},
    "cache": {"dataset", "file_lock", "formats", "label_files", "raster"},
    "synthetic": {"config", "file_lock", "memory", "scene"},
    "sources": {"cache", "checkpoints", "config", "dataset", "entries", "formats", "label_files", "synthetic"},
    "runtime": {"config"},
    "checkpoints": {"config", "distributed", "model", "raster"},
    "validation": {"dataset", "distributed", "formats", "guard", "label_files", "lanes", "losses_fixed", "metrics",
                   "model", "runtime", "scores", "submission"},
    "visualize": {"bezier", "lanes"},
    "learner": {"checkpoints", "config", "model", "muon"},
    "breakdown": {"bezier", "lanes", "metrics"},
    "threshold": {"label_files", "lanes", "metrics", "scores", "submission"},
    "plots": {"visualize"},
    "charts": {"plots"},
    "journal": {"breakdown", "config", "dataset", "lanes", "plots", "visualize"},
    "run_folder": {"distributed", "journal"},
    "report": {"breakdown", "charts", "dataset", "guard", "label_files", "lanes", "plots", "scores", "threshold"},
    "detector": {"checkpoints", "dataset", "fusion", "guard", "lanes", "runtime"},
    "frames": {"dataset", "distributed", "formats"},
    "outputs": {"bezier", "formats", "frames", "submission", "visualize"},
}
ALLOWED |= dict.fromkeys(SCENES, SCENES)


def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def is_run_as_script(node):
    """Whether a statement is `if __name__ == "__main__":`, where a room is a script and may know anything."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and "__name__" in ast.unparse(node.test)


def imported(name):
    """Our own modules that a module imports, anywhere but where it is run as a script."""
    found = set()
    for node in (n for top in tree(name).body if not is_run_as_script(top) for n in ast.walk(top)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a script has no package to be relative to"
            found.add(node.module.split(".")[0])
    return found & ANYTHING - {name}


def is_script(name):
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree(name).body)


@pytest.mark.parametrize("name", MODULES)
def test_each_room_knows_only_those_it_may(name):
    if name not in ALLOWED and is_script(name):
        return
    assert name in ALLOWED, f"{name}.py is neither in the table of rooms nor a script with a main()"
    assert imported(name) <= ALLOWED[name]


def test_the_table_names_no_room_that_is_gone():
    assert set(ALLOWED) <= ANYTHING


def test_nobody_imports_in_a_circle():
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in imported(name):
                visit(other, [*path, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])


@pytest.mark.parametrize("name", MODULES)
def test_no_room_is_called_after_nothing(name):
    assert name not in ("utils", "util", "common", "misc", "helpers")
    assert ast.get_docstring(tree(name)), "the first line of a module says what it is"


def test_importing_does_nothing(tmp_path):
    """No output, no file, and no work: all modules in one fresh interpreter."""
    code = "import os, sys; sys.path.insert(0, sys.argv[1])\n" + "".join(f"import {name}\n" for name in MODULES)
    code += "import torch, threading; assert not torch.cuda.is_initialized()"
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], cwd=tmp_path, env=environment,
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
