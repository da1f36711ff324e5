"""Losses by tokens of training: how many times more tokens the baseline needs, what is said of it, and a picture.

A loss is reached where the curve first comes down to it: noise lets a flat curve touch a loss early, which favours
whoever is asked, here the baseline.
"""

import io
import statistics

from tamis.pipelines.cluster_map import COLOURS, DPI
from tamis.pipelines.learning_curves import tokens_to

BASELINE = "#404040"
WIDTH, HEIGHT = 1200, 560


def times_fewer(baseline, tokens, loss):
    """Return how many times as many tokens the baseline's curve needs for a loss, None where it does not reach it."""
    needed = tokens_to(baseline, loss)
    return None if needed is None else needed / tokens


def ratio_curve(baseline, curve):
    """Return (tokens, times fewer) of a curve's points below where both begin and within the baseline's reach."""
    points = [(tokens, times_fewer(baseline, tokens, loss)) for tokens, loss in curve if tokens > 0]
    return [(tokens, ratio) for tokens, ratio in points if ratio]


def mean_curve(curves):
    """Return the mean of curves over the same tokens."""
    return [(points[0][0], statistics.fmean(loss for _, loss in points)) for points in zip(*curves, strict=True)]


def spread(values, digits=3):
    """Write a mean and a range."""
    return f"{statistics.fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios_said(ratios, most):
    """Write ratios as a mean and a range; those that are None are above `most`, what could be seen at most."""
    reached = [ratio for ratio in ratios if ratio is not None]
    if not reached:
        return f"not reached: more than {most:.1f}"
    if len(reached) < len(ratios):
        n_missed = len(ratios) - len(reached)
        return f"not reached in {n_missed} of {len(ratios)}: {min(reached):.1f} to more than {most:.1f}"
    return spread(reached, 1)


def draw_curves(curves, baseline, title):
    """Return a PNG of {name: [curve of a seed, ...]}: the losses with their ranges, and the ratios of the means."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.985, top=0.85, bottom=0.11, wspace=0.17)
    figure.suptitle(title, x=0.06, y=0.955, ha="left", va="center", fontsize=12, weight="bold", parse_math=False)
    others = [name for name in curves if name != baseline]
    colours = {baseline: BASELINE, **dict(zip(others, COLOURS, strict=False))}
    means = {name: mean_curve(found) for name, found in curves.items()}
    for name, found in curves.items():
        _losses(left, name, found, means[name], colours[name])
    for name in others:
        _ratios(right, means[baseline], means[name], colours[name])
    right.axhline(1, color=BASELINE, linewidth=1)
    start, last = means[baseline][0][1], means[baseline][-1][0]
    lowest, highest = (pick(loss for mean in means.values() for _, loss in mean[1:]) for pick in (min, max))
    if start < 2 * highest - lowest:  # that of new weights would flatten the curves
        left.axhline(start, color=BASELINE, linewidth=0.8, linestyle=":", label="before")
    seen = sorted({t for name in others for t, _ in means[name] if t})
    limit = f"all that {baseline} was trained on"
    right.plot(seen, [last / t for t in seen], color=BASELINE, linewidth=0.8, linestyle=":", label=limit)
    right.legend(fontsize=9, frameon=False)
    right.set_yscale("log")
    _ticks(right.yaxis)
    left.set_title("loss on held-out documents of the target, nats a token", loc="left", fontsize=10)
    right.set_title(f"how many times fewer tokens than {baseline}, for the same loss", loc="left", fontsize=10)
    left.legend(fontsize=9, frameon=False)
    for axes in (left, right):
        axes.set_xscale("log")
        _ticks(axes.xaxis)
        axes.set_xlabel("tokens of training", fontsize=9)
        axes.tick_params(labelsize=8, colors="#606060")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E8E8E8", linewidth=0.6)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _losses(axes, name, found, mean, colour):
    tokens = [t for t, _ in mean if t]
    losses = [[loss for t, loss in curve if t] for curve in found]
    lowest, highest = ([pick(at) for at in zip(*losses, strict=True)] for pick in (min, max))
    axes.fill_between(tokens, lowest, highest, color=colour, alpha=0.18, linewidth=0)
    axes.plot(tokens, [loss for t, loss in mean if t], color=colour, linewidth=1.6, label=name)


def _ratios(axes, baseline, curve, colour):
    points = ratio_curve(baseline, curve)
    axes.plot([t for t, _ in points], [r for _, r in points], color=colour, linewidth=1.6, marker="o", markersize=2.5)


def _ticks(axis):
    """Label a logarithmic axis as people write numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda n, _: f"{n / 1e6:g}M" if n >= 1e6 else f"{n / 1e3:g}K" if n >= 1e3 else f"{n:g}")
    axis.set_minor_formatter(NullFormatter())
