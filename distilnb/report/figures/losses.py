"""Figures of the losses: temperature, guesses, masks (notebook 02)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from .style import BLACK, COLOURS, GREY, TERMS, colours_of, plain_token, styled


@styled
def plot_temperature(
    logits: Any, tokens: Sequence[str], temperatures: Sequence[float] = (1, 2, 4), k: int = 8
) -> Figure:
    """A teacher's `k` best guesses for one masked word, softmax(logits / T); `logits` (vocab,), `tokens` the words."""
    logits = _array(logits)
    if logits.shape != (len(tokens),):
        raise ValueError(f"logits must be one row of {len(tokens)} values, one per token; got shape {logits.shape}")
    if min(temperatures) <= 0:
        raise ValueError(f"temperatures must be positive, got {tuple(temperatures)}")
    best = np.argsort(-logits, kind="stable")[:k]
    figure, axes = plt.subplots(
        1,
        len(temperatures),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(2.6 * len(temperatures) + 0.6, 0.8 + 0.26 * len(best)),
    )
    for ax, temperature in zip(axes[0], temperatures, strict=True):
        odds = np.exp((logits - logits.max()) / temperature)
        probabilities = odds / odds.sum()
        ax.barh(np.arange(len(best)), probabilities[best], color=COLOURS["teacher"])
        ax.set(title=f"T = {temperature:.3g}", xlabel="probability")
        ax.text(0.97, 0.04, f"all others {1 - probabilities[best].sum():.0%}", transform=ax.transAxes, ha="right")
    axes[0, 0].set_yticks(np.arange(len(best)), [plain_token(tokens[index]) for index in best])
    axes[0, 0].invert_yaxis()
    figure.suptitle("A higher temperature shows more of the teacher's other guesses", x=0, ha="left")
    return figure


def _array(values: Any) -> np.ndarray:
    """Numbers from a list, an array or a tensor of any kind."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, dtype=float)


@styled
def plot_guesses(guesses: Mapping[str, Sequence[tuple[str, float]]]) -> Figure:
    """What each model says for the hidden word: its best guesses (word, probability), a panel per model."""
    most = max(len(best) for best in guesses.values())
    figure, axes = plt.subplots(
        1, len(guesses), sharex=True, squeeze=False, figsize=(2.9 * len(guesses) + 0.4, 0.9 + 0.28 * most)
    )
    for ax, (model, best), colour in zip(axes[0], guesses.items(), colours_of(list(guesses)), strict=True):
        bars = ax.barh(range(len(best)), [probability for _, probability in best], color=colour)
        ax.bar_label(bars, [f"{probability:.0%}" for _, probability in best], padding=3)
        ax.set_yticks(range(len(best)), [plain_token(word) for word, _ in best])
        ax.set(title=model, xlabel="probability", xlim=(0, 1.15), ylim=(most - 0.4, -0.6), xticks=(0, 0.5, 1))
    return figure


@styled
def plot_masking(tokens: Sequence[str], shares: Mapping[str, Any]) -> Figure:
    """How often each token of a sentence is hidden: `shares` is a label → one share per token."""
    pairs = {label: _array(values) for label, values in shares.items()}
    if not pairs or any(values.shape != (len(tokens),) for values in pairs.values()):
        raise ValueError(f"each setting needs {len(tokens)} shares, one per token")
    figure, ax = plt.subplots(figsize=(min(max(6, 2 + 0.4 * len(tokens)), 12), 3.2))
    places, width = np.arange(len(tokens)), 0.8 / len(pairs)
    for i, ((label, values), colour) in enumerate(zip(pairs.items(), (GREY, COLOURS["student"], BLACK), strict=False)):
        ax.bar(places + (i + 0.5) * width - 0.4, values, width, color=colour, label=label)
    ax.set_xticks(places, [plain_token(token) for token in tokens], rotation=90)
    ax.set(ylabel="share of the draws", xlim=(-0.6, len(tokens) - 0.4), title="How often each word is hidden")
    ax.legend(ncols=len(pairs), loc="lower right", bbox_to_anchor=(1, 1))
    return figure


@styled
def plot_loss_weights(values: Mapping[str, float], gram: Any, weights: Mapping[str, float]) -> Figure:
    """What weights do to the three losses of a batch: each one's share of the sum and of the gradients' lengths, and
    the cosine of its gradient with that of the sum. `gram` holds the dot products of the gradients, (terms, terms)."""
    gram, w = _array(gram), np.array([weights[name] for name in values])
    lengths, pull = w * np.sqrt(gram.diagonal()), gram @ w
    shares = {"the sum": w * list(values.values()), "gradients": lengths}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.6), width_ratios=(3, 2))
    ends = np.zeros(2)
    for i, name in enumerate(values):
        parts = np.array([part[i] / part.sum() for part in shares.values()])
        bars = left.barh(list(shares), parts, left=ends, height=0.6, color=TERMS[name], edgecolor="white")
        left.bar_label(
            bars,
            [f"{name} {part:.0%}" if part > 0.1 else "" for part in parts],
            label_type="center",
            color="black" if name == "mlm" else "white",
        )
        ends += parts
    left.invert_yaxis()
    left.set(title=f"L = {shares['the sum'].sum():.2f}", xlim=(0, 1), xlabel="share")
    left.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
    cosines = pull / np.sqrt(gram.diagonal() * (w @ pull))
    bars = right.barh([f"L_{name}" for name in values], cosines, color=[TERMS[name] for name in values])
    right.bar_label(bars, [f"{cosine:+.2f}" for cosine in cosines], padding=3)
    right.invert_yaxis()
    right.axvline(0, color=GREY, lw=0.8)
    right.set(title="cosine with the gradient of the sum", xlim=(-0.4, 1.25))
    strongest = list(values)[int(lengths.argmax())]
    figure.suptitle(f"L_{strongest} pulls hardest at weights {' / '.join(f'{value:g}' for value in w)}", x=0, ha="left")
    return figure
