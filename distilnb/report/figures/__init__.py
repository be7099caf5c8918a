"""Figures of the lessons and the results, one function each; `gallery` draws all published ones."""

# ruff: noqa: F401  (all are asked for here, by lessons and commands)

from .ablation import plot_ablation, plot_heldout, plot_layer_choice, plot_pairs
from .describing import describe
from .gallery import draw_all, drawings, longest, teaching
from .losses import plot_guesses, plot_loss_weights, plot_masking, plot_temperature
from .models import plot_layer_kinds, plot_layer_map, plot_parameter_counts, plot_parameter_groups
from .speed import (
    plot_file_sizes,
    plot_formats,
    plot_growth,
    plot_overhead,
    plot_rounding,
    plot_runtimes,
    plot_seconds,
    plot_sweeps,
    sweep_ratios,
)
from .style import BLACK, COLOURS, GREY, MUTED, fit, projecting, reduce_png, save_figure, style, to_png, to_svg
from .tasks import plot_published, plot_retention, plot_scores, plot_span_probabilities, plot_vintages
from .training import plot_curve, plot_teaching
