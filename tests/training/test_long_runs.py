"""Runs that take long or break off: what becomes of them, and that they leak neither memory nor files."""

import os
import shutil
from pathlib import Path

import kill_and_resume
import pytest
from processes import SHORT, needs_kill, needs_proc, open_files
from trainings import log

import train_fixed
from formats.base import DataError
from runtime import checkpoint
from training.run_dir import RunDir


def test_an_image_that_becomes_unreadable_ends_the_run_in_one_line(settings, rendered, trained, tmp_path, monkeypatch):
    """Mended, it goes on to what a run of whole images has; that one had a cache, this one reads them all again."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(rendered, "data")
    run = [*settings, "data.root=data", "data.cache=false", "train.epochs=2"]
    saved, original = [], checkpoint.save_checkpoint

    def save_then_lose_images(path, *rest, **contents):
        original(path, *rest, **contents)
        if path.name == "last.pth" and contents["progress"]["epoch"] == 2 and not saved:
            saved.append(path.read_bytes())
            for image in Path("data").rglob("*.jpg"):
                image.rename(image.with_suffix(".kept"))

    def write_epoch_and_wait(run_dir, *rest, **more):  # before the next epoch reads its images
        write_epoch(run_dir, *rest, **more)
        run_dir.close()

    write_epoch = RunDir.write_epoch
    monkeypatch.setattr(RunDir, "write_epoch", write_epoch_and_wait)
    monkeypatch.setattr(checkpoint, "save_checkpoint", save_then_lose_images)
    with pytest.raises(DataError, match=r"data/clips/.*20\.jpg: no such image$"):
        train_fixed.main([*run, "train.checkpoint_dir=run"])
    assert Path("run/last.pth").read_bytes() == saved[0]
    for image in Path("data").rglob("*.kept"):
        image.rename(image.with_suffix(".jpg"))
    assert train_fixed.main([*run, "train.checkpoint_dir=run", "--resume"]) == 0
    assert log(Path("run")) == log(trained)


@pytest.mark.slow
@needs_proc
def test_memory_and_files_stay_level_over_fifty_epochs(rendered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    after, original = {}, checkpoint.save_checkpoint

    def measured(path, *rest, **contents):
        original(path, *rest, **contents)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        epoch = contents.get("progress", {}).get("epoch", 1) - 1
        after[epoch] = (pages * os.sysconf("SC_PAGE_SIZE") / 1e6, open_files())

    monkeypatch.setattr(checkpoint, "save_checkpoint", measured)
    train_fixed.main([*SHORT, f"data.root={rendered}", "data.cache_dir=cache", "train.epochs=50", "guard.patience=50"])
    (tenth, files_then), (last, files_now) = after[10], after[50]
    print(f"{tenth:.0f} MB after epoch 10, {last:.0f} MB after epoch 50; {files_now} files are open")
    assert last < tenth + 40  # MB
    assert files_now <= files_then


@pytest.mark.slow
@pytest.mark.process
@needs_kill
def test_a_run_killed_at_random_steps_ends_as_if_it_had_not_been(capfd):
    assert kill_and_resume.main(["--kills", "3", "--seed", "4"]) == 0
    assert "after 3 kills the log is equal in all 6 epochs, and the weights are equal" in capfd.readouterr().out
