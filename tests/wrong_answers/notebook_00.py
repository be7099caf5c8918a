"""Plausible wrong answers to the exercises of notebook 00."""


def mean_of_the_others(scores, mean):
    return {name: mean - (sum(scores.values()) - value) / (len(scores) - 1) for name, value in scores.items()}


def error_of_the_mean(scores, mean):
    error = sum(scores.values()) / len(scores) - mean
    return {name: value - error for name, value in scores.items()}


def other_direction(scores, mean):
    return {name: value + sum(scores.values()) - len(scores) * mean for name, value in scores.items()}


def only_mnli(scores, mean):
    return {"MNLI": 84.7}


WRONG = {
    "00.1": ["WNLI", "CoLA", "macro"],
    "00.2": [205, 167, 129, 410],
    "00.3": [mean_of_the_others, error_of_the_mean, other_direction, only_mnli, {"MNLI": 84.7}],
    "00.4": [96.6, 96.9, 99.6, 93.6, 92.9, 0.934, 97],
}
