"""Trains the lane-regression network from scratch: python train_fixed.py [section.key=value ...] [--resume]"""

import contextlib
import math
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from config import Config
from dataset import batches, epoch_order
from evaluation import collapse_detector, evaluator, validation_sets
from evaluation.collapse_detector import COLLAPSING
from evaluation.evaluator import Evaluation
from inference.predictor import Predictor
from losses_fixed import LaneLoss, LossTerms
from runtime import checkpoint, cli, distributed
from runtime.checkpoint import DEFAULT_CHECKPOINT
from runtime.device import pick_device, pick_precision, seed_everything, warm_up
from runtime.memory import keep_freed_memory
from runtime.signals import Interrupt
from training.data import TrainingData, check_ranks_agree, check_roots, load_data, with_input_scale
from training.device_steps import check_cuda_graph, device_steps
from training.epoch import train_epoch
from training.loss_check import refuse_diverged
from training.messages import best_scores, data_words, epoch_line, opening_lines
from training.run_dir import RunDir, TrainingError, sole_training
from training.state import TrainProgress, TrainState, build_model, build_state, check_start, restore
from training.step import StepSetup, step_setup


def main(argv: Sequence[str] | None = None) -> int:
    """Train, one line an epoch; exit status 0, 1 for an error or a collapse, 130 or 143 when interrupted."""
    parser = cli.parser(__doc__)
    parser.add_argument("words", nargs="*", metavar="section.key=value", help="settings to override")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run in checkpoint_dir")
    options, overrides = cli.parse(parser, argv, inputs=False)
    config = cli.load_settings(options, overrides)
    with (distributed.process_group(pick_device(config.train.device)) as device,
          sole_training(config.train.checkpoint_dir)):
        settings = [*(["--config", options.config] if options.config else []), *overrides]
        return train(config, device, options.resume, settings)


def train(config: Config, device: torch.device, resume: bool, settings: Sequence[str]) -> int:
    """Train as configured on this device; returns the exit status. `settings` are those of the command line."""
    check_start(config, resume)
    check_cuda_graph(config.train, device)
    keep_freed_memory()
    seed_everything(config.train.seed)
    dtype = pick_precision(config.train.precision, device)
    loss = LaneLoss(**vars(config.loss))
    run_dir = RunDir(config, in_background=device.type == "cuda")
    resumed = run_dir.load_last() if resume else None
    check_roots(config)
    with warm_up(device):
        data = load_data(config, device)
    check_ranks_agree(config, data)
    check_cuda_graph(config.train, device, data.train_set)
    config = with_input_scale(config)
    model = build_model(config, device, resume)
    epoch_images = len(epoch_order(data.part_sizes, config.data.weights, config.train.seed, epoch=1))
    steps_per_epoch = math.ceil(epoch_images / config.train.batch_size)
    state = build_state(model, config, steps_per_epoch * config.train.epochs, device, dtype)
    progress = resume_or_start(state, data, run_dir, resumed)
    print(opening_lines(model, data, config, device, dtype), flush=True)

    setup = step_setup(state, wrap_model(model, config, device), loss, config, device, dtype)
    recorded_steps = device_steps(setup, data.train_set)
    predictor = Predictor(state.ema.module, checkpoint.input_grid(config), device, dtype,
                          cuda_graphs=not config.train.compile)  # the compiler's own graphs free what these would read
    with Interrupt().caught() as interrupt, contextlib.closing(run_dir):
        while progress.epoch <= config.train.epochs:
            began = time.perf_counter()
            order = epoch_order(data.part_sizes, config.data.weights, config.train.seed, progress.epoch)
            batch_indices = batches(order, config.train.batch_size)
            num_images = sum(map(len, batch_indices[progress.step:]))
            progress = train_epoch(setup, data.train_set, batch_indices, progress, interrupt, recorded_steps)
            if stop := distributed.all_reduce_max(interrupt.signal):
                interrupt.signal = stop
                progress = progress._replace(seconds=progress.seconds + time.perf_counter() - began)
                save_interrupted(run_dir, state, progress, settings)
                return interrupt.status

            losses = LossTerms(*(progress.sums / len(order)).tolist())
            record, evaluation = validate(setup, predictor, data, losses, progress.epoch,
                                          progress.epoch * steps_per_epoch)
            seconds = time.perf_counter() - began
            record |= {"images_per_second": num_images / seconds, "seconds": progress.seconds + seconds}
            progress, is_best = next_progress(progress, record, evaluation)
            run_dir.write_epoch(state, progress, record, evaluation, is_best)
            print(epoch_line(record, evaluation.diagnosis, data.val_gt, config.train), flush=True)
            if progress.collapsed_epochs >= config.guard.patience:
                raise TrainingError(f"stopped after {progress.collapsed_epochs} epochs in a row of "
                                    f"{evaluation.diagnosis}")
    print(closing_line(run_dir, progress, data))
    return 0


def resume_or_start(state: TrainState, data: TrainingData, run_dir: RunDir, resumed: dict[str, Any] | None
                    ) -> TrainProgress:
    """The progress of the resumed run, or that of a new one, whose folder is made ready for it."""
    progress = restore(state, resumed, run_dir.last) if resumed else TrainProgress(data=data.fingerprint)
    if progress.data != data.fingerprint:
        raise TrainingError("images or labels are not those of the interrupted run; restore them, or start anew "
                            "(data.split=auto held back a tenth of few images, too, before 28 November 2026: give 0.1)")
    distributed.barrier()  # no process moves the files that another one still reads
    run_dir.remove_unfinished()
    if not resumed:
        run_dir.archive_previous_run()
        run_dir.save_last(state, progress)  # so that --resume can continue this run from its first step
    run_dir.open_scalars(progress.epoch)
    return progress


def wrap_model(model: torch.nn.Module, config: Config, device: torch.device) -> torch.nn.Module:
    """The model as a step calls it: wrapped for several processes, and compiled if requested."""
    ddp_model = distributed.wrap_ddp(model, device, find_unused=0 in vars(config.loss).values())
    if config.train.compile:  # static shapes: batches of an epoch have at most two sizes
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        ddp_model = torch.compile(ddp_model, dynamic=False, mode=mode)
    return ddp_model


def validate(setup: StepSetup, predictor: Predictor, data: TrainingData, losses: LossTerms, epoch: int, steps: int
             ) -> tuple[dict[str, Any], Evaluation]:
    """The record of an epoch and the evaluation of its EMA weights, by the predictor, on the validation images."""
    config, gt = setup.config, data.val_gt
    predictor.load_weights(setup.state.ema.module)  # what it has recorded for its GPU serves all epochs
    batch_size, workers = config.inference.batch_size, config.data.workers
    prediction = evaluator.predict(predictor, data.val_set, gt.indices, batch_size, workers)
    refuse_diverged(setup.state.ema.module, prediction, epoch)
    train_stats = evaluator.label_stats(
        data.train_gt, evaluator.predict(predictor, data.train_set, data.train_gt.indices, batch_size, workers))
    diagnose = partial(collapse_detector.diagnose, guard=config.guard, steps=steps, train_stats=train_stats)
    check = validation_sets.check_collapse(predictor, data.val_set, gt, prediction, diagnose)
    decode, scores = validation_sets.choose_decode(prediction, gt, config.inference.threshold,
                                                   config.inference.end_tolerance)
    evaluation = validation_sets.evaluate(prediction, gt, decode, check, scores, workers=1)  # none to be interrupted
    record = {"epoch": epoch, "steps": steps, "train_loss": losses.total,
              **{name: getattr(losses, name) for name in setup.loss.weights},
              "threshold": decode.threshold, "verdict": check.diagnosis.state, **evaluation.scores,
              **check.stats.record(),
              **evaluator.validation_losses(prediction, gt, setup.loss, decode.threshold),
              "train_diversity": train_stats.diversity, "train_error_px": train_stats.error_px,
              "train_constant_error_px": train_stats.constant_error_px,
              **validation_sets.sets_record(evaluation, setup.loss)}
    return record, evaluation


def next_progress(progress: TrainProgress, record: dict[str, Any], evaluation: Evaluation
                  ) -> tuple[TrainProgress, bool]:
    """The progress at the start of the next epoch, and whether this one's model is the best so far."""
    key = validation_sets.selection_key(evaluation.gt, record)
    is_best = key > progress.best and evaluation.diagnosis.savable
    collapsed_epochs = progress.collapsed_epochs + 1 if evaluation.diagnosis.state == COLLAPSING else 0
    return TrainProgress(progress.epoch + 1, best=key if is_best else progress.best, collapsed_epochs=collapsed_epochs,
                         seconds=record["seconds"], data=progress.data), is_best


def save_interrupted(run_dir: RunDir, state: TrainState, progress: TrainProgress, settings: Sequence[str]) -> None:
    """Save an interrupted run and print the command that continues it."""
    run_dir.save_last(state, progress)
    if distributed.rank() == 0:
        several = distributed.world_size() > 1
        command = ["torchrun", f"--nproc_per_node={distributed.processes_here()}"] if several else ["python"]
        print(f"interrupted in epoch {progress.epoch} after step {progress.step}; continue with: "
              f"{shlex.join([*command, 'train_fixed.py', *settings, '--resume'])}", file=sys.stderr)
    distributed.barrier()  # torchrun kills the others when one process ends: none may still be saving


def closing_line(run_dir: RunDir, progress: TrainProgress, data: TrainingData) -> str:
    """The best model's scores, and the command that prints its lanes. Raises TrainingError where there is none."""
    if progress.best == TrainProgress().best:
        raise TrainingError(f"no epoch gave a model worth keeping; {run_dir.log} has their verdicts")
    distributed.barrier()  # until it is written
    scores = checkpoint.load_checkpoint(run_dir.best)["scores"]
    words = [] if str(run_dir.best) == DEFAULT_CHECKPOINT else ["--checkpoint", str(run_dir.best)]
    words += data_words(run_dir.config.data)
    return (f"the best model has {best_scores(scores, data.val_gt)} on validation; "
            f"see its lanes with: {shlex.join(['python', 'inference_fixed.py', *words])}")


if __name__ == "__main__":
    cli.run(main)
