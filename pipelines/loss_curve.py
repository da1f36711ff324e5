"""The curve of a training's losses, as a table and as a PNG."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..features.training_state import History
from ..storage.trained_models import CURVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, DPI = 900, 540, 100
LOSS, SMOOTH, HELD_OUT = "#BBBBBB", "#0072B2", "#D55E00"
"""Grey, and the blue and vermillion of Okabe and Ito (2008)."""
SMOOTHED_OVER = 30
"""Of a curve, the part over which a mean is drawn."""
SHOWN_FROM = 0.02
"""The first losses of a new model would flatten the rest: the axis has room for those after this share of the steps."""


def curve_table(history: History, tokens_a_step: int, tokens: int) -> pa.Table:
    """Return a row a step, and one before the first; the loss is that of the step before its update."""
    held_out = dict(history.held_out)
    steps = range(len(history.losses) + 1)
    columns = {
        "step": [*steps],
        "tokens": [min(tokens, step * tokens_a_step) for step in steps],
        "loss": [None, *history.losses],
        "held_out": [held_out.get(step) for step in steps],
        "gradient": [None, *history.norms],
    }
    return pa.table(columns, schema=CURVE)


def draw_curve(curve: pa.Table, title: str, best: tuple[int, float] | None) -> bytes:
    """Return a PNG: losses over tokens; `best` is the step whose weights were kept, and its held-out loss."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    tokens = curve.column("tokens").to_numpy()
    loss, held_out = (_numbers(curve, name) for name in ("loss", "held_out"))
    axes.plot(tokens, loss, color=LOSS, linewidth=0.8, label="each step")
    if len(loss) > 2 * SMOOTHED_OVER:
        axes.plot(tokens, _smooth(loss, len(loss) // SMOOTHED_OVER), color=SMOOTH, linewidth=1.6, label="mean of steps")
    watched = np.isfinite(held_out)
    if watched.any():
        axes.plot(tokens[watched], held_out[watched], "o-", color=HELD_OUT, markersize=3.5, label="held out")
    if best is not None:
        at = int(tokens[best[0]])
        axes.axvline(at, color=HELD_OUT, linewidth=0.8, linestyle=":")
        axes.plot(at, best[1], "o", color=HELD_OUT, markersize=8, fillstyle="none", label=f"kept: {best[1]:.3f}")
    _limit(axes, loss, held_out)
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("tokens")
    axes.set_ylabel("loss, nats a token")
    axes.xaxis.set_major_formatter(_short_count)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _numbers(curve: pa.Table, name: str) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = pc.fill_null(curve.column(name), np.nan).to_numpy()
    return found


def _smooth(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Return means over `width` values around each, of those there are."""
    kernel, known = np.ones(width), np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")
    count = np.convolve(known.astype(float), kernel, "same")
    means: npt.NDArray[np.float64] = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return means


def _limit(axes: "Axes", loss: npt.NDArray[np.float64], held_out: npt.NDArray[np.float64]) -> None:
    later = loss[max(1, int(SHOWN_FROM * len(loss))) :]
    shown = np.concatenate([later, held_out[1:]])
    if np.isfinite(shown).any():
        low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
        if held_out[0] < high + (high - low):  # what goes on from another model begins near its end
            high = max(high, float(held_out[0]))
        margin = 0.05 * (high - low) or 0.1
        axes.set_ylim(low - margin, high + margin)


def _short_count(value: float, _: Any) -> str:
    """Return a number of tokens as people write it: 500K, 2.5M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
