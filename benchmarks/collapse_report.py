"""The tables of benchmarks/collapse.py, as Markdown, from the logs of its seeds."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from collapse_records import Run, SeedLog, Settings, Variant
from old_way import TERMS

from metrics.collapse import REFERENCE_WIDTH_PX

LOSSES = {"ours": "ours", "no columns": "ours less columns", "old": "old", "fixed": "old, s fixed at 0",
          "no curvature": "old less curvature"}
HEADS = {"ours": "ours", "old": "pooled"}
ORDERS = {"ours": "by position", "old": "shuffled", "left to right": "left to right"}


def tables(logs: Sequence[SeedLog], origin: str) -> str:
    """All figures as Markdown: origin, outcome, course, learned weights, and what a constant reaches."""
    settings = logs[0].settings or Settings()
    seeds = ", ".join(str(log.seed) for log in logs)
    minutes = sum(run.seconds for log in logs for run in log.runs) / 60
    head = ["# The collapse, measured", origin,
            f"Seed{'s' * (len(logs) > 1)} {seeds}: each has scenes, initial weights and an order of its own. "
            f"Training took {minutes:.0f} minutes in all, each run on its own.", setting(settings)]
    if len(logs) > 1:
        head.append("Figures with ± are the mean over the seeds ± half of the range (the largest less the smallest).")
    runs = runs_by_variant(logs)
    parts = {
        "Where each run ended": outcome(runs),
        "The total on the validation scenes, over time": course(runs),
        "What the learned weights did": weights(runs),
        "What a prediction that ignores the image reaches": blindness(logs),
    }
    return "\n\n".join([*head, *(f"## {title}\n\n{text}" for title, text in parts.items())])


def setting(settings: Settings) -> str:
    """What all runs have in common, as sentences."""
    return (f"{settings.scenes} rendered scenes to train on, {settings.val_scenes} to validate on, input "
            f"{settings.width}x{settings.height}, {settings.epochs} epochs in batches of {settings.batch_size}.\n"
            f"AdamW at {settings.learning_rate:g} with a cosine, float32, no augmentation.\n"
            "All figures but the column `total, trained` are of the validation scenes; "
            f"px are of an image {REFERENCE_WIDTH_PX} wide.")


def runs_by_variant(logs: Sequence[SeedLog]) -> dict[Variant, list[Run]]:
    """The runs of each variant, one a seed. Raises ValueError where the logs do not have the same variants."""
    runs: dict[Variant, list[Run]] = {}
    for log in logs:
        for run in log.runs:
            runs.setdefault(run.variant, []).append(run)
    short = [variant.name for variant, group in runs.items() if len(group) != len(logs)]
    if short:
        raise ValueError(f"not every log has a run of: {', '.join(short)}")
    return runs


def outcome(runs: dict[Variant, list[Run]]) -> str:
    """The last epoch of each run."""
    rows = []
    for variant, group in runs.items():
        last = [run.epochs[-1] for run in group]
        rows.append([
            variant.name, LOSSES[variant.loss], HEADS[variant.head], ORDERS[variant.slots],
            spread(last, "total", 2), spread(last, "val_total", 2),
            f"{spread(last, 'error_px', 0)} ({mean(last, 'constant_error_px'):.0f})", spread(last, "diversity", 2),
            spread(last, "sensitivity", 2), spread(last, "f1", 0, 100), spread(last, "accuracy", 0, 100),
            verdicts(last)])
    note = ("Old loss: it learns its weights. Pooled head: it averages the map before it predicts.\n"
            "Shuffled: lanes come in a random order, which each image keeps.\n"
            "The total of our loss is another sum than that of the old one, and not to be compared with it.\n"
            "A verdict is `collapsing` for a low diversity, or for a low sensitivity where the error is not clearly "
            "below that of the constant.\n\n")
    return note + table(["variant", "loss", "head", "lanes", "total, trained", "total", "error px (constant)",
                         "diversity", "sensitivity", "F1 %", "accuracy %", "verdicts"], rows)


def course(runs: dict[Variant, list[Run]]) -> str:
    """The total at five moments, and the epoch in which it first was below 0."""
    epochs = len(next(iter(runs.values()))[0].epochs)
    moments = sorted({max(1, round(epochs * share)) for share in (0, 0.25, 0.5, 0.75, 1)})
    rows = []
    for variant, group in runs.items():
        at = {moment: [run.epochs[moment - 1] for run in group] for moment in moments}
        rows.append([variant.name, *(f"{mean(at[moment], 'val_total'):.2f}" for moment in moments),
                     below_zero(group), " ".join(f"{mean(at[moment], 'diversity'):.2f}" for moment in moments)])
    head = ["variant", *(f"epoch {i}" for i in moments), "first below 0 in", "diversity at these"]
    return seeds_note(runs, "Means over the seeds, and the epoch of each seed.") + table(head, rows)


def below_zero(group: Sequence[Run]) -> str:
    """The first epoch of each seed whose total is below 0."""
    epochs = [next((str(record["epoch"]) for record in run.epochs if record["val_total"] < 0), "never")
              for run in group]
    return epochs[0] if len(set(epochs)) == 1 else ", ".join(epochs)


def weights(runs: dict[Variant, list[Run]]) -> str:
    """Each unweighted term with its s and weight exp(-s) in the end, and how the gradients compare."""
    rows = []
    for variant, group in runs.items():
        last = [run.epochs[-1] for run in group]
        if "s_regression" not in last[0]:
            continue
        cells = [f"{median(last, f'val_{n}'):.4f}, {median(last, f's_{n}'):+.2f}, {median(last, f'weight_{n}'):.1f}"
                 for n in TERMS]
        parts = [statistics.median((record[f"weight_{n}"] * record[f"val_{n}"] + record[f"s_{n}"]) / 2
                                   for record in last) for n in TERMS]
        pull = statistics.median(record["pull_curvature"] / max(record["pull_regression"], 1e-12) for record in last)
        rows.append([variant.name, *cells, " ".join(f"{value:+.2f}" for value in parts), f"{pull:.1f}"])
    return (seeds_note(runs, "Medians over the seeds.")
            + "In the cells of a term: the term, its s, its weight exp(-s).\n"
            "The parts are 1/2 (exp(-s) term + s) of the three.\n"
            "The pull is the length of the weighted term's gradient at the control points, curvature's over "
            "regression's.\n\n" + table(["variant", *TERMS, "parts of the total", "pull"], rows))


def blindness(logs: Sequence[SeedLog]) -> str:
    """The best constant prediction in each order of lanes, with the total that s = log(term) gives it."""
    rows = []
    for same in zip(*(log.blind for log in logs), strict=True):
        total = mean(same, "total")
        rows.append([ORDERS[same[0]["slots"]] + (", roads alike" if same[0]["alike"] else ""),
                     *(f"{mean(same, name):.4f}" for name in TERMS),
                     "-∞" if math.isinf(total) else spread(same, "total", 2), spread(same, "error_px", 0),
                     spread(same, "f1", 0, 100), spread(same, "accuracy", 0, 100)])
    return ("The median lane of each slot and the slot's frequency as its confidence, with the old terms.\n\n"
            + table(["lanes", *TERMS, "total at the best s", "error px", "F1 %", "accuracy %"], rows))


def mean(records: Sequence[dict[str, Any]], key: str) -> float:
    """The mean of a figure over the seeds."""
    return sum(record[key] for record in records) / len(records)


def median(records: Sequence[dict[str, Any]], key: str) -> float:
    """The median of a figure over the seeds."""
    return statistics.median(record[key] for record in records)


def spread(records: Sequence[dict[str, Any]], key: str, digits: int, factor: float = 1) -> str:
    """Mean ± half of the range of a figure over the seeds; of one seed the figure alone."""
    values = [factor * record[key] for record in records]
    text = f"{round(sum(values) / len(values), digits) + 0.0:.{digits}f}"  # no negative zero
    return text if len(values) == 1 else f"{text} ± {(max(values) - min(values)) / 2:.{digits}f}"


def verdicts(records: Sequence[dict[str, Any]]) -> str:
    """How many seeds ended in which verdict."""
    counts = Counter(record["verdict"] for record in records)
    if len(records) == 1:
        return records[0]["verdict"]
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def seeds_note(runs: dict[Variant, list[Run]], text: str) -> str:
    """How several seeds became one figure; empty for one seed."""
    return f"{text}\n\n" if len(next(iter(runs.values()))) > 1 else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))
