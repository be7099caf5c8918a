"""Descriptions of figures, computed from what was drawn, for readers who cannot see them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure


def describe(figure: Figure) -> str:
    """A figure in words: its title, then for each panel the ends of its curves, its longest and shortest bars."""
    titles = [figure.get_suptitle(), *(ax.get_title(loc) for ax in figure.axes for loc in ("left", "center"))]
    sentences = [". ".join(dict.fromkeys(filter(None, titles)))]
    sentences += [sentence for ax in figure.axes if (sentence := _panel(ax))]
    return " ".join(f"{' '.join(sentence.split()).rstrip('.')}." for sentence in sentences if sentence)


def _panel(ax: Axes) -> str:
    """The description of one panel, computed from what was drawn in it."""
    facts = [fact for container in ax.containers if (fact := _bars(ax, container) or _spread(container))][:4]
    for line in ax.get_lines():
        label = str(line.get_label())
        numbers = [float(value) for value in line.get_ydata() if _is_number(value)]
        if label.startswith("_") or len(numbers) < 2:
            continue
        marks_alone = line.get_linestyle() in ("None", "")  # such as one hollow mark for each task
        facts.append(label if marks_alone else f"{label} goes from {numbers[0]:.3g} to {numbers[-1]:.3g}")
    facts += [
        f"a map of {image.get_array().shape[0]} by {image.get_array().shape[1]} values from "
        f"{image.get_array().min():.2f} to {image.get_array().max():.2f}"
        for image in ax.get_images()
    ]
    names = " against ".join(name.replace("\n", " ") for name in (ax.get_ylabel(), ax.get_xlabel()) if name)
    return "; ".join(([names] if names else []) + facts[:6])


def _spread(container: Any) -> str:
    """The description of points with error bars: their middles from the first to the last."""
    label = str(container.get_label())
    if not isinstance(container, ErrorbarContainer) or label.startswith("_"):
        return ""
    numbers = [float(value) for value in container.lines[0].get_ydata()]
    if len(numbers) < 2:
        return label
    if container.lines[0].get_linestyle() in ("None", ""):  # points that no line joins, such as one for each task
        return f"{label} lies between {min(numbers):.3g} and {max(numbers):.3g}"
    return f"{label} goes from {numbers[0]:.3g} to {numbers[-1]:.3g}"


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _bars(ax: Axes, container: Any) -> str:
    """The description of the longest and the shortest bar of a group, named by their ticks."""
    if not isinstance(container, BarContainer) or len(container) < 2:
        return ""
    flat = container.orientation == "horizontal"
    sizes = [bar.get_width() if flat else bar.get_height() for bar in container]
    ticks = [text.get_text() for text in (ax.get_yticklabels() if flat else ax.get_xticklabels())]
    if not any(ticks) and ax.figure.axes[0] is not ax:  # because panels that share an axis are labelled once
        shared = ax.figure.axes[0]
        ticks = [text.get_text() for text in (shared.get_yticklabels() if flat else shared.get_xticklabels())]
    most, least = (pick(range(len(sizes)), key=lambda i: sizes[i]) for pick in (max, min))
    label = str(container.get_label())
    group = "" if label.startswith("_") else f"{label}: "
    if sizes[most] == sizes[least]:
        return f"{group}all bars {sizes[most]:.3g}"
    if len(ticks) != len(sizes):  # because the bars of a histogram have no names
        return f"{group}{len(sizes)} bars from {sizes[least]:.3g} to {sizes[most]:.3g}"
    return f"{group}{ticks[most]} has {sizes[most]:.3g}, {ticks[least]} {sizes[least]:.3g}"
