"""Plausible wrong answers to the exercises of notebook 07."""

import torch

from distilnb.lessons.exercises import notebook_07


def per_row(weight, levels=127, round=torch.round):
    scale = weight.abs().amax(1, keepdim=True) / levels
    return round(weight / scale).to(torch.int8), scale


def per_matrix(weight):
    scale = weight.abs().max() / 127
    return torch.round(weight / scale).to(torch.int8), scale


def per_column(weight):
    scale = weight.abs().amax(0, keepdim=True) / 127
    return torch.round(weight / scale).to(torch.int8), scale


ERRORS = notebook_07._errors()
ROW, MATRIX = ERRORS["row"], ERRORS["matrix"]

WRONG = {
    "07.1": [0.25, 1.75, 300, 1.3333],
    "07.2": [(33.18, 70), (27.4, 75), (45_100_000, 59), (45.1, 41.2), (45.1, 32.0), (45.1, 50), (21.3, 80.6)],
    "07.3": [(50, 0.1, 0.05), (0.004, 0.1, 0.048), (0.1, 0.1, 0.048), (0.05, 0.05, 0.1)],
    "07.4": [
        per_matrix,
        per_column,
        lambda weight: per_row(weight)[0],
        lambda weight: (per_row(weight)[0].float(), per_row(weight)[1]),
        lambda weight: per_row(weight, levels=128),
        lambda weight: per_row(weight, levels=100),
        lambda weight: per_row(weight, round=torch.trunc),
    ],
    "07.5": [
        (MATRIX, ROW),
        (ROW, ROW),
        (ERRORS["all"], MATRIX),
        (ERRORS["column"], MATRIX),
        (100 * ROW, 100 * MATRIX),
        (ROW, 2 * MATRIX),
        (0.5, 0.6),
    ],
}
