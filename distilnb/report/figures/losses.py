"""Figures of the losses: temperature, guesses, masks (notebook 02)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats
from scipy.special import softmax

from .style import (
    BLACK,
    COLOURS,
    GREY,
    MUTED,
    TERMS,
    WIDTH,
    colours_of,
    finding,
    labels_of,
    legend_below,
    plain_token,
    styled,
)


@styled
def plot_temperature(
    logits: Any, tokens: Sequence[str], temperatures: Sequence[float] = (1, 2, 4), k: int = 12
) -> Figure:
    """A figure of a teacher's `k` best whole words for one masked word: softmax(logits / T) on a logarithmic axis.

    `logits` are (vocab,), `tokens` is the vocabulary. Above each panel are the entropy and the number of equally likely
    words that has the same entropy.
    """
    logits = _array(logits)
    if logits.shape != (len(tokens),):
        raise ValueError(f"logits must be one row of {len(tokens)} values, one per token; got shape {logits.shape}")
    if min(temperatures) <= 0:
        raise ValueError(f"temperatures must be positive, got {tuple(temperatures)}")
    order = np.argsort(-logits, kind="stable")
    best = [index for index in order if tokens[index].isalpha()][:k] or list(order[:k])  # without ##ing and full stops
    figure, axes = plt.subplots(
        1, len(temperatures), sharex=True, sharey=True, squeeze=False, figsize=(WIDTH, 1.9 + 0.27 * len(best))
    )
    for ax, temperature in zip(axes[0], temperatures, strict=True):
        probabilities = softmax(logits / temperature)
        entropy = stats.entropy(probabilities)
        ax.barh(np.arange(len(best)), probabilities[best], color=COLOURS["teacher"])
        ax.set(title=f"T = {temperature:.3g}\n{entropy:.2f} nats", xlabel="probability", xscale="log")
        ax.text(0.97, 0.02, f"others {1 - probabilities[best].sum():.0%}", transform=ax.transAxes, ha="right")
    axes[0, 0].set_xlim(1e-4, 1)
    axes[0, 0].set_yticks(np.arange(len(best)), [plain_token(tokens[index]) for index in best])
    axes[0, 0].set_ylim(len(best) + 0.6, -0.6)  # the best on top, and a line of room below for the others
    finding(
        figure, f"At T = {temperature:.3g} the teacher is as undecided as between {np.exp(entropy):,.0f} equal words"
    )
    return figure


def _array(values: Any) -> np.ndarray:
    """Numbers from a list, an array or a tensor of any kind."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values, dtype=float)


@styled
def plot_guesses(guesses: Mapping[str, Sequence[tuple[str, float]]]) -> Figure:
    """A figure of each model's best guesses (word, probability) for the hidden word, a panel each."""
    most = max(len(best) for best in guesses.values())
    size = (WIDTH, 0.6 + len(guesses) * (0.4 + 0.25 * most))
    figure, axes = plt.subplots(len(guesses), 1, sharex=True, squeeze=False, figsize=size)
    for ax, (model, best), colour in zip(axes[:, 0], guesses.items(), colours_of(list(guesses)), strict=True):
        bars = ax.barh(range(len(best)), [probability for _, probability in best], color=colour)
        ax.bar_label(bars, [f"{probability:.0%}" for _, probability in best], padding=3)
        ax.set_yticks(range(len(best)), [plain_token(word) for word, _ in best])
        ax.set(title=labels_of([model])[0], xlim=(0, 1.15), ylim=(most - 0.4, -0.6))
    axes[-1, 0].set(xlabel="probability")
    return figure


@styled
def plot_masking(tokens: Sequence[str], shares: Mapping[str, Any]) -> Figure:
    """A figure of how often each token of a sentence is hidden; `shares` maps a label to one share per token."""
    pairs = {label: _array(values) for label, values in shares.items()}
    if not pairs or any(values.shape != (len(tokens),) for values in pairs.values()):
        raise ValueError(f"each setting needs {len(tokens)} shares, one per token")
    figure, ax = plt.subplots(figsize=(WIDTH, 3.8))
    places, width = np.arange(len(tokens)), 0.8 / len(pairs)
    for i, ((label, values), colour) in enumerate(zip(pairs.items(), (MUTED[3], MUTED[0], BLACK), strict=False)):
        ax.bar(places + (i + 0.5) * width - 0.4, values, width, color=colour, label=label)
    ax.set_xticks(places, [plain_token(token) for token in tokens], rotation=90)
    ax.set(ylabel="share of the draws", xlim=(-0.6, len(tokens) - 0.4))
    first, last = (next(iter(pairs.values())), list(pairs.values())[-1])
    if len(pairs) > 1:
        most = int(np.argmax(np.abs(last - first)))
        finding(
            ax, f"Smoothing moves the masks: '{plain_token(tokens[most])}' from {first[most]:.0%} to {last[most]:.0%}"
        )
    legend_below(figure, ax)
    return figure


@styled
def plot_loss_weights(values: Mapping[str, float], gram: Any, weights: Mapping[str, float]) -> Figure:
    """A figure of the effect of weights on the three losses of a batch: each loss's share of the sum and of the
    gradients' lengths, and the cosine of its gradient with that of the sum. `gram` holds the dot products of the
    gradients, (terms, terms)."""
    gram, w = _array(gram), np.array([weights[name] for name in values])
    lengths, pull = w * np.sqrt(gram.diagonal()), gram @ w
    shares = {"the sum": w * list(values.values()), "gradients": lengths}
    figure, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 4.6))
    ends = np.zeros(2)
    for i, name in enumerate(values):
        parts = np.array([part[i] / part.sum() for part in shares.values()])
        bars = left.barh(list(shares), parts, left=ends, height=0.6, color=TERMS[name], edgecolor="white")
        labels = [f"{name} {part:.0%}" if part > 0.16 else "" for part in parts]
        left.bar_label(bars, labels, label_type="center", color="white" if name == "ce" else "black")
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
    finding(figure, f"L_{strongest} pulls hardest at weights {' / '.join(f'{value:g}' for value in w)}")
    return figure
