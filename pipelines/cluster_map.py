"""The map of a clustering: the two principal components of the vectors of a sample, drawn as PNG.

Two panels, by cluster and by chosen. The twenty largest clusters have a look each, seven colours by three shapes; the
others are grey. Six colours are Okabe and Ito's (2008), one is brown: under simulated colour blindness (Machado et al.
2009) two of them, or one and the grey, are at least 16 apart in CIELAB. (Colours by the order of the clusters along an
axis say nothing that the axis does not, and neighbours cannot be told apart.) Importing Matplotlib takes a quarter of a
second, so only drawing does it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..selectors.blas_threads import one_blas_thread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float64s = npt.NDArray[np.float64]

COLOURED = 20
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B3A00")
SHAPES = ("o", "^", "s")
GREY, CHOSEN = "#C8C8C8", "#0072B2"
WIDTH, HEIGHT, DPI = 1200, 600, 100
LABEL_PIXELS = (9.5, 15.0)
"""Width of a digit, and height."""
DIRECTIONS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
NAME_SHOWN, TITLE_SHOWN = 32, 96
"""Characters of a name, and of a title of full size."""
NOTHING = 1e-12
"""A variance below this is rounding: the squares of numbers of float32 near 1."""


@dataclass(frozen=True)
class Projection:
    """Principal components: `mean` (d,), `components` (2, d), and their shares of the variance (2,)."""

    mean: Float64s
    components: Float64s
    explained: Float64s

    def of(self, x: npt.NDArray[np.floating[Any]]) -> Float64s:
        """Return the coordinates (n, 2) of vectors."""
        with one_blas_thread():
            found: Float64s = (x.astype(np.float64) - self.mean) @ self.components.T
        return found


def fit_projection(x: npt.NDArray[np.float32]) -> Projection:
    """Return the two principal components of rows (n, d); the largest loading of each is positive.

    A component without variance is all zeros, so that equal documents are one point and not rounding errors.
    """
    n, d = x.shape
    mean, components, explained = np.zeros(d), np.zeros((2, d)), np.zeros(2)
    if n == 0 or d == 0:
        return Projection(mean, components, explained)
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    with one_blas_thread():  # with several threads the last digits would follow their number
        values, vectors = np.linalg.eigh(centred.T @ centred / n)
    total = float(values.sum())
    for i, place in enumerate(range(d - 1, max(-1, d - 3), -1)):
        if values[place] > NOTHING * max(1.0, total):
            component = vectors[:, place]
            components[i] = component * np.sign(component[np.argmax(np.abs(component))])
            explained[i] = values[place] / total
    return Projection(mean, components, explained)


@dataclass(frozen=True)
class Map:
    """What is drawn: a sample of documents, and the centroids of all clusters with their sizes."""

    xy: Float64s
    cluster: npt.NDArray[np.int64]
    chosen: npt.NDArray[np.bool_]
    centroids: Float64s
    n_documents: npt.NDArray[np.int64]
    """(k,): in each cluster, of all documents."""
    explained: Sequence[float]


def draw_map(drawn: Map, flow: str, step: str, selector: str) -> bytes:
    """Return the map as PNG, 1200 x 600 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.06, right=0.985, top=0.87, bottom=0.09, wspace=0.06)
    n_clusters, n_documents = len(drawn.centroids), int(drawn.n_documents.sum())
    names = " · ".join(_short(name) for name in (flow, step, selector))
    title = f"{names}: {_counted(n_documents, 'document')} in {_counted(n_clusters, 'cluster')}"
    title = title if n_clusters else f"{names}: no document has a vector"
    figure.suptitle(
        title, x=0.06, y=0.965, ha="left", va="center", fontsize=13 * min(1, TITLE_SHOWN / len(title)), weight="bold",
        parse_math=False,
    )  # fmt: skip
    shown = "" if len(drawn.xy) == n_documents else f" of the {len(drawn.xy):,} shown"
    largest = np.lexsort((np.arange(n_clusters), -drawn.n_documents))[:COLOURED].tolist()
    _by_cluster(left, drawn, largest)
    _by_chosen(right, drawn, shown)
    for axes, number in ((left, 0), (right, 0), (left, 1)):
        text = f"principal component {number + 1}, {drawn.explained[number]:.1%} of the variance"
        (axes.set_ylabel if number else axes.set_xlabel)(text, fontsize=10)
    for axes in (left, right):
        axes.tick_params(labelsize=8, colors="#606060")
        axes.spines[["top", "right"]].set_visible(False)
        _number_centroids(axes, drawn, largest if n_clusters > 1 else [])
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _by_cluster(axes: "Axes", drawn: Map, largest: list[int]) -> None:
    others = ~np.isin(drawn.cluster, largest)
    size = _marker_size(len(drawn.xy))
    _scatter(axes, drawn.xy[others], GREY, "o", size)
    for i, cluster in enumerate(largest):
        colour, shape = COLOURS[i % len(COLOURS)], SHAPES[i // len(COLOURS)]
        _scatter(axes, drawn.xy[drawn.cluster == cluster], colour, shape, size * (1.6 if others.any() else 1))
    more = len(drawn.centroids) - len(largest)
    said = f"by cluster: the {len(largest)} largest in colour, {more:,} others grey" if more else "by cluster"
    axes.set_title(said, loc="left", fontsize=11)


def _by_chosen(axes: "Axes", drawn: Map, shown: str) -> None:
    size = _marker_size(len(drawn.xy))
    _scatter(axes, drawn.xy[~drawn.chosen], GREY, "o", size)
    _scatter(axes, drawn.xy[drawn.chosen], CHOSEN, "o", size * 1.3)
    n = int(drawn.chosen.sum())
    axes.set_title(
        f"chosen (blue): {n:,}{shown}; not chosen (grey): {len(drawn.chosen) - n:,}", loc="left", fontsize=11
    )


def _scatter(axes: "Axes", xy: Float64s, colour: str, shape: str, size: float) -> None:
    axes.scatter(xy[:, 0], xy[:, 1], s=size, c=colour, marker=shape, linewidths=0, alpha=0.75)


def _marker_size(n: int) -> float:
    """Return the area of a point in square points: the more points, the smaller."""
    return float(np.clip(20_000 / max(1, n), 5, 36))


def _number_centroids(axes: "Axes", drawn: Map, largest: list[int]) -> None:
    """Write the numbers of the clusters at their centroids or beside, the largest first, where there is room."""
    from matplotlib.patheffects import withStroke

    axes.get_xlim(), axes.get_ylim()  # makes Matplotlib settle the limits that `transData` goes by
    taken: list[tuple[Float64s, float]] = []
    pixels = axes.transData.transform(drawn.centroids)
    for cluster in largest:
        half = LABEL_PIXELS[0] * len(str(cluster)) / 2 + 1
        offsets = np.array(DIRECTIONS) * (2 * half + 1, LABEL_PIXELS[1] + 1)
        free = (o for o in offsets if not any(_overlap(pixels[cluster] + o - p, half + h) for p, h in taken))
        offset = next(free, None)
        if offset is not None and drawn.n_documents[cluster]:
            taken.append((pixels[cluster] + offset, half))
            axes.annotate(
                str(cluster), drawn.centroids[cluster], offset, textcoords="offset pixels", ha="center", va="center",
                fontsize=9, weight="bold", path_effects=[withStroke(linewidth=2.5, foreground="white")],
                annotation_clip=True,
            )  # fmt: skip


def _overlap(apart: Float64s, width: float) -> bool:
    return bool(abs(apart[0]) < width and abs(apart[1]) < LABEL_PIXELS[1])


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def _short(name: str) -> str:
    return name if len(name) <= NAME_SHOWN else name[: NAME_SHOWN - 1] + "…"
