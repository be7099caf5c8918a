"""Figures of the lessons and the results, one function each; `gallery` draws all published ones."""

from .ablation import plot_ablation, plot_heldout, plot_layer_choice, plot_pairs
from .describing import describe
from .gallery import draw_all, drawings, longest, teaching
from .losses import plot_guesses, plot_loss_weights, plot_masking, plot_temperature
from .models import plot_layer_map, plot_parameter_counts, plot_parameter_groups
from .speed import (
    plot_file_sizes,
    plot_formats,
    plot_growth,
    plot_overhead,
    plot_rounding,
    plot_seconds,
    plot_sweeps,
    sweep_ratios,
)
from .style import (
    BLACK,
    COLOURS,
    GREY,
    MUTED,
    PALETTE,
    PAPER_ROLES,
    SUFFIXES,
    TERMS,
    Scores,
    reduce_png,
    save_figure,
    style,
    to_png,
    to_svg,
)
from .tasks import plot_published, plot_retention, plot_scores, plot_span_probabilities, plot_vintages
from .training import plot_curve, plot_teaching

__all__ = [
    "BLACK",
    "COLOURS",
    "SUFFIXES",
    "GREY",
    "MUTED",
    "PALETTE",
    "PAPER_ROLES",
    "Scores",
    "TERMS",
    "describe",
    "draw_all",
    "drawings",
    "longest",
    "teaching",
    "plot_ablation",
    "plot_curve",
    "plot_file_sizes",
    "plot_formats",
    "plot_growth",
    "plot_guesses",
    "plot_heldout",
    "plot_layer_choice",
    "plot_layer_map",
    "plot_loss_weights",
    "plot_masking",
    "plot_overhead",
    "plot_pairs",
    "plot_parameter_counts",
    "plot_parameter_groups",
    "plot_published",
    "plot_retention",
    "plot_rounding",
    "plot_scores",
    "plot_seconds",
    "plot_span_probabilities",
    "plot_sweeps",
    "plot_teaching",
    "plot_temperature",
    "plot_vintages",
    "reduce_png",
    "save_figure",
    "style",
    "sweep_ratios",
    "to_png",
    "to_svg",
]
