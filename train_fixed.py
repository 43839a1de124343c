"""Trains the lane-regression network from scratch: python train_fixed.py [section.key=value ...] [--resume]"""

import hashlib
import math
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from config import Config, ConfigError
from dataset import LaneDataset, batches, epoch_order, evenly_spaced, loader, open_dataset, split_from_config
from evaluation import collapse_detector, evaluator
from evaluation.collapse_detector import COLLAPSING, Diagnosis
from evaluation.evaluator import GroundTruth
from evaluation.threshold import best_threshold, threshold_curve
from formats.base import Label
from geometry.slots import resolve_ambiguous_assignment
from inference.predictor import Predictor
from losses_fixed import LaneLoss, LossTerms
from model import LaneNet, LanePrediction, starts_above_cut
from preprocessing.augment import AugmentParams, augment, sample_params
from runtime import checkpoint, cli, distributed, signals
from runtime.device import autocast, pick_device, pick_precision, seed_everything
from runtime.memory import keep_freed_memory
from training import epoch_pictures, tensorboard
from training.run_dir import TrainingError, archive_previous_run, writable_dir, write_log
from training.state import TrainProgress, TrainState, build_state, load_last, restore, save

DEFAULT_MODEL = str(Path("checkpoints_fixed") / "best_model.pth")
TRAINED_SIGNS = ("diversity", "error_px", "constant_error_px")  # of training images, for the log
TRAIN_SAMPLE = 40  # one training image in so many is looked at by the guard: under 1 % of an epoch
TRAIN_SAMPLE_MOST = 2000  # and no more than these, since their labels stay in memory
CHECK_EVERY = 25  # steps between looks at the loss: each look makes a GPU wait


def main(argv: Sequence[str] | None = None) -> int:
    """Train, one line an epoch; exit status 0, 1 for an error or a collapse, 130 or 143 when interrupted."""
    arguments = cli.parser(__doc__)
    arguments.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    arguments.add_argument("--resume", action="store_true", help="continue the interrupted run in checkpoint_dir")
    options, overrides = cli.parse(arguments, argv, inputs=False)
    config = cli.load_settings(options, overrides)
    with distributed.process_group(pick_device(config.train.device)) as device:
        words = [*(["--config", options.config] if options.config else []), *overrides]
        return train(config, device, options.resume, words)


def train(config: Config, device: torch.device, resume: bool, words: list[str]) -> int:
    """Train as configured on this device; words are what the command line set. Returns the exit status."""
    keep_freed_memory()
    seed_everything(config.train.seed)
    dtype = pick_precision(config.train.precision, device)
    loss = LaneLoss(**vars(config.loss))
    folder = writable_dir(config.train.checkpoint_dir)
    resumed = load_last(folder / "last.pth", config) if resume else None
    summary_writer = tensorboard.require_tensorboard() if config.train.tensorboard else None

    with distributed.main_process_first():
        found = split_from_config(config)
        if not found.val:
            raise ConfigError(f"data.split={config.data.split[-1]} leaves no image to validate on; try data.split=auto")
        train_set = open_dataset(found.all_train(), config)
        val_set = open_dataset(found.val, config)
    for part in (train_set, val_set):
        part.preload(device, config.data.on_device)
    truth = evaluator.ground_truth(val_set)
    sample = evenly_spaced(range(len(train_set)), min(max(4, len(train_set) // TRAIN_SAMPLE), TRAIN_SAMPLE_MOST))
    known = evaluator.ground_truth(train_set, sample)

    fresh = not (resumed or config.train.init_from)
    model = checkpoint.build_model(config, load_pretrained=fresh)
    if config.train.init_from and not resumed:
        start = checkpoint.load_checkpoint(config.train.init_from, "started from")
        checkpoint.load_weights(model, start.get("model"), config.train.init_from)
    model = distributed.sync_batch_norm(model, device).to(device, memory_format=torch.channels_last)
    steps = math.ceil(len(train_set) / config.train.batch_size)
    state = build_state(model, config, steps * config.train.epochs, device, dtype)
    grid = checkpoint.input_grid(config)
    data = fingerprint(train_set, [*truth.labels, *known.labels])
    progress = restore(state, resumed, folder / "last.pth") if resumed else TrainProgress(data=data)
    if progress.data != data:
        raise TrainingError("images or labels are not those of the interrupted run; restore them, or start anew")
    distributed.barrier()  # all have read what the next lines move
    if not resumed:
        archive_previous_run(folder)
        save(folder / "last.pth", config, state, progress)  # so that --resume finds this run from its first step
    first = distributed.rank() == 0
    scalars = None
    if config.train.tensorboard and first:
        scalars = summary_writer(folder / tensorboard.TENSORBOARD_DIR, purge_step=progress.epoch)
    print(opening_line(model, train_set, val_set, config, device, dtype), flush=True)

    stepped = distributed.wrap_ddp(state.model, device)
    if config.train.compile:  # for each of the two sizes of batch that an epoch can have
        stepped = torch.compile(stepped, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else "default")
    with signals.Interrupt().caught() as interrupt:
        while progress.epoch <= config.train.epochs:
            epoch, began = progress.epoch, time.perf_counter()
            order = epoch_order([len(part) for part in found.train], config.data.weights, config.train.seed, epoch)
            plan = batches(order, config.train.batch_size)
            to_do = sum(map(len, plan[progress.step:]))
            progress = train_epoch(state, stepped, train_set, plan, loss, config, device, dtype, progress, interrupt)
            if stop := distributed.all_reduce_max(interrupt.signal):
                interrupt.signal = stop
                save(folder / "last.pth", config, state,
                     progress._replace(seconds=progress.seconds + time.perf_counter() - began))
                if first:
                    print(f"interrupted in epoch {epoch} after step {progress.step}; continue with: "
                          f"python train_fixed.py {shlex.join([*words, '--resume'])}", file=sys.stderr)
                distributed.barrier()  # whoever ends early has the others ended, in the middle of their saving
                return interrupt.status

            trained = LossTerms(*(progress.sums / len(order)).tolist())
            record, judged, prediction = validate(Predictor(state.ema.module, grid, device, dtype), val_set, truth, train_set, known, loss, config,
                                                  epoch * steps)
            seconds = time.perf_counter() - began
            record = {"epoch": epoch, "steps": epoch * steps, "train_loss": trained.total,
                      **{name: getattr(trained, name) for name in loss.weights}, **record, "verdict": judged.state,
                      "images_per_second": to_do / seconds, "seconds": progress.seconds + seconds}
            collapsed = progress.collapsed_epochs + 1 if judged.state == COLLAPSING else 0
            rank = selection_key(record, len(truth.order))
            is_best = rank > progress.best and judged.looks
            progress = TrainProgress(epoch + 1, best=rank if is_best else progress.best, collapsed_epochs=collapsed,
                                seconds=record["seconds"], data=progress.data)
            if is_best:
                checkpoint.save_checkpoint(folder / "best_model.pth", config, scores=record,
                                            model=state.ema.module.state_dict())
            write_log(folder / "log.jsonl", record)
            save(folder / "last.pth", config, state, progress)
            if first:
                epoch_pictures.write_epoch_pictures(folder, val_set, truth.target, *prediction, record["threshold"],
                                                    is_best)
            if scalars:
                tensorboard.write_scalars(scalars, record)
            print(epoch_line(record, judged, config.train.epochs), flush=True)
            if collapsed >= config.guard.patience:
                raise TrainingError(f"stopped after {collapsed} epochs in a row of {judged}")
    if progress.best == TrainProgress().best:
        raise TrainingError(f"no epoch gave a model worth keeping; {folder / 'log.jsonl'} has their verdicts")
    best = folder / "best_model.pth"
    print(f"the best model has F1 {100 * progress.best[2]:.1f} % on validation; see its lanes with: "
          f"python inference_fixed.py{'' if str(best) == DEFAULT_MODEL else f' --checkpoint {shlex.quote(str(best))}'}")
    return 0


def train_epoch(state: TrainState, stepped: nn.Module, dataset: LaneDataset, plan: list[Sequence[int]], loss: LaneLoss,
                config: Config, device: torch.device, dtype: torch.dtype, progress: TrainProgress, interrupt: signals.Interrupt) -> TrainProgress:
    """Run the steps of an epoch that are still to do; returns the progress, short of the end if interrupted.

    The views of a step depend on seed, epoch and step alone, so that a resumed run repeats an uninterrupted one, and
    several processes see what one would. Each takes its share of every batch of the plan.
    """
    step = progress.step
    sums = torch.zeros(len(LossTerms._fields), device=device) if progress.sums is None else progress.sums.to(device)
    seen = sum(map(len, plan[:step]))
    generator = torch.Generator()
    state.model.train()
    shares = loader(dataset, [distributed.shard(batch) for batch in plan[step:]], config.data.workers,
                    device.type == "cuda")
    bar = tqdm(shares, f"Epoch {progress.epoch}/{config.train.epochs}", file=sys.stderr, leave=False,
               disable=distributed.progress_disabled(), unit="step")
    for images, target in bar:
        size = len(plan[step])
        generator.manual_seed(step_seed(config.train.seed, progress.epoch, step))
        views = sample_params(size, config.augment, dataset.grid.aspect, generator)
        images, target = images.to(device, non_blocking=device.type != "mps"), target.to(device)
        images, target = augment(images, target, AugmentParams(*map(distributed.shard, views)), dataset.grid.warp)
        with autocast(device, dtype):
            (points, logits), rows = stepped(images, with_rows=True)
        terms = loss(points, logits, resolve_ambiguous_assignment(points, logits, target), rows, distributed.all_reduce_mean)

        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(terms.total).backward()
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), config.train.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.lr_scheduler.step()
        state.ema.update_parameters(state.model)

        sums += torch.stack(terms).detach() * size
        step, seen = step + 1, seen + size
        stop = distributed.all_reduce_max(interrupt.signal)  # none goes alone: who is told later than this goes next time
        if step % CHECK_EVERY == 0 or step == len(plan) or stop:
            refuse_invalid_loss(terms, progress.epoch, step)
            refuse_invalid_loss(LossTerms(*(sums / seen)), progress.epoch, step)  # nor any step before
            bar.set_postfix(loss=f"{terms.total.item():.3f}")
        if stop:
            break
    return progress._replace(step=step, sums=distributed.all_reduce_mean(sums))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed for the random views of one step, unlike that of any other step of the run."""
    return (seed * 1_000_003 + epoch) * 10_000_019 + step


def refuse_invalid_loss(terms: LossTerms, epoch: int, step: int) -> None:
    """Raise TrainingError for a loss that is negative or not finite, naming every term."""
    values = {name: value.item() for name, value in terms._asdict().items()}
    if all(math.isfinite(value) and value >= 0 for value in values.values()):
        return
    named = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    raise TrainingError(f"the loss is negative or not finite in epoch {epoch}, step {step}: {named}; look at the "
                        "labels (python dataset.py --check ROOT) and lower train.learning_rate")


def validate(network: Predictor, val_set: LaneDataset, truth: GroundTruth, train_set: LaneDataset, known: GroundTruth,
             loss: LaneLoss, config: Config, steps: int) -> tuple[dict[str, float], Diagnosis, LanePrediction]:
    """Scores on the validation images, what the guard says of them and of some training images (known), and the
    predictions.
    """
    prediction = evaluator.predict(network, val_set, truth.order, config.inference.batch_size, config.data.workers)
    seen = evaluator.collapse_stats(network, val_set, truth, prediction)
    trained = train_stats(network, train_set, known, config)
    judged = collapse_detector.diagnose(seen, config.guard.min_diversity, config.guard.min_sensitivity, trained,
                           beginning=steps < config.guard.first_steps)
    threshold = config.inference.threshold
    if threshold == "auto":
        curve = threshold_curve(prediction.points, prediction.logits.sigmoid(), truth.labels, truth.sizes_px,
                                config.inference.end_tolerance)
        threshold, _ = best_threshold(curve)
    answer = evaluator.to_benchmark(prediction, truth, "tusimple", threshold, config.inference.end_tolerance)
    record = {"threshold": threshold} | evaluator.validation_losses(prediction, truth, loss, threshold)
    record |= evaluator.benchmark_scores(answer, [])[0]
    record |= seen._asdict() | {f"train_{name}": getattr(trained, name) for name in TRAINED_SIGNS}
    return record, judged, prediction


def selection_key(record: dict[str, float], images: int) -> tuple[float, float, float]:
    """What the best model is chosen by: F1, as far as so many images can tell it, then the error; then F1 to the digit.

    The step is F1's standard error for three to four lanes an image, nine in ten of them found: a percent for 300
    images. The community's F1 gives 67 % to a model that finds nothing (no false positive); accuracy does not.
    """
    step, error_px = 0.16 / math.sqrt(images), record["error_px"]
    worth = round(min(record["f1"], record["accuracy"]) / step)
    return worth * step, -error_px if math.isfinite(error_px) else -math.inf, record["f1"]


def train_stats(network: Predictor, train_set: LaneDataset, known: GroundTruth, config: Config
                   ) -> collapse_detector.CollapseStats:
    """The guard's signs on a few training images, as they are."""
    prediction = evaluator.predict(network, train_set, known.order, config.inference.batch_size, config.data.workers)
    return evaluator.label_stats(known, prediction)


def opening_line(model: LaneNet, train_set: LaneDataset, val_set: LaneDataset, config: Config, device: torch.device,
                 dtype: torch.dtype) -> str:
    """What is about to be trained on what, and which labels it will not see."""
    weights = sum(p.numel() for p in model.parameters())
    line = (f"{len(train_set)} images to train on, {len(val_set)} to validate on; {weights / 1e6:.1f} M weights on "
            f"{device} in {str(dtype).removeprefix('torch.')}")
    if train_set.pixels is None:
        line += "\nwithout a cache, lanes that do not fit the slots are counted by: python dataset.py --check ROOT"
    for pixels in filter(None, (train_set.pixels, val_set.pixels)):
        images, lanes = f"{len(pixels.images)} images", int(pixels.exists.sum()) + pixels.num_unassigned
        if pixels.num_unassigned + pixels.num_too_short:
            line += (f"\n{pixels.num_unassigned} of {lanes} lanes in {images} do not fit the slots, "
                     f"{pixels.num_too_short} more have fewer than two points")
        if above := int((pixels.exists & starts_above_cut(pixels.points, config.model.cut_top)).sum()):
            line += (f"\n{above} of {lanes} lanes in {images} begin in what model.cut_top={config.model.cut_top:g} hides: "
                     "lower it")
    return line


def epoch_line(record: dict[str, Any], judged: Diagnosis, epochs: int) -> str:
    """One epoch in one line for people."""
    left = record["seconds"] / record["epoch"] * (epochs - record["epoch"])
    return (f"epoch {record['epoch']:3}/{epochs}  loss {record['train_loss']:.3f} "
            f"(regression {record['regression']:.3f} existence {record['existence']:.3f} "
            f"curvature {record['curvature']:.3f} columns {record['columns']:.3f}) | val loss {record['val_loss']:.3f} "
            f"accuracy {100 * record['accuracy']:.1f} % F1 {100 * record['f1']:.1f} % | "
            f"error {record['error_px']:.1f} px (constant {record['constant_error_px']:.1f}) "
            f"diversity {record['diversity']:.2f} sensitivity {record['sensitivity']:.2f} | {judged} | "
            f"{record['images_per_second']:.0f} img/s, {int(left) // 60}:{int(left) % 60:02} left")


def fingerprint(dataset: LaneDataset, labels: Sequence[Label]) -> str:
    """A hash of the names of a data set's images, in their order, and of some labels."""
    digest = hashlib.sha256()
    for name in dataset.samples.names():
        digest.update(f"{name}\n".encode())
    for found in labels:
        digest.update(b"".join(lane.tobytes() for lane in found.lanes))
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    cli.run(main)
