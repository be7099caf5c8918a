"""Figures with controls for the lessons: a view redraws a figure of the package whenever a slider is moved.

Only core ipywidgets are used (`pip install "distilnb[notebooks]"`; Colab and Jupyter include them). A view computes
slow parts once, so that a move costs only the drawing, and shows a line for values that cannot be drawn. Where no
widget can run (on GitHub, in a page), the view's first picture stays in the notebook.
"""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ipywidgets
import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor
from transformers import BertForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from ..distillation import losses
from ..evidence.statistics import linear_cka
from ..models import guessing
from ..models.arithmetic import count_parameters
from ..models.student import LAYER_CHOICES, build_student, choose_layers
from ..report import figures
from ..studies import ablation
from ..tasks import finetuning
from ..tasks.answers import Answer
from ..text import masking, toyworld
from ..text.masking import Masker
from .display import WIDEST

LONGEST = 64  # the most tokens of a sentence that is drawn token by token
OWN = "your own"  # a choice of layers without a name
SCORES = {
    "macro": "the macro score (points)",
    "mlm_loss": "the held-out MLM loss",
    "agreement": "agreement with the teacher (points)",
}
LIMITS = (("megabytes", "MB at most"), ("milliseconds", "ms at most"), ("points", "points at most"))
HINT = "Run this notebook in Jupyter or on Colab to move the controls of this view: "


class View(ipywidgets.VBox):
    """Controls, and below them the result of `draw(**values)` for their values: a Figure, or text as HTML.

    A button resets all controls. A ValueError is shown as its own line, any other error as one line with its kind.
    """

    def __init__(self, draw: Callable[..., Figure | str], **controls: ipywidgets.Widget) -> None:
        self.draw, self.controls = draw, controls
        self.shown, self._quiet = ipywidgets.HTML(), False
        self.start = {name: control.value for name, control in controls.items()}
        self.back = ipywidgets.Button(description="reset", tooltip="take all controls back to where they began")
        self.back.on_click(self.reset)
        super().__init__([*controls.values(), self.back, self.shown])
        for control in controls.values():
            control.observe(self.redraw, "value")
        self.redraw()

    def reset(self, _: Any = None) -> None:
        """Reset all controls and draw the picture once."""
        self._quiet = True
        for name, value in self.start.items():
            self.controls[name].value = value
        self._quiet = False
        self.redraw()

    def redraw(self, _: Any = None) -> None:
        """Draw the result for the present values of the controls."""
        if self._quiet:
            return
        try:
            self._drawn = self.draw(**{name: control.value for name, control in self.controls.items()})
        except Exception as error:  # because the lesson must go on, whatever a reader types
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            line = (str(error).strip() or "this cannot be drawn").splitlines()[0]
            self._drawn = (
                '<p role="alert" style="border-left: 4px solid #d55e00; padding-left: 0.6em">'
                f"{html.escape(kind + line)}</p>"
            )
        self.shown.value = _image(self._drawn) if isinstance(self._drawn, Figure) else self._drawn

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle, metadata = super()._repr_mimebundle_(**kwargs), {}
        bundle["text/plain"] = HINT + ", ".join(self.controls)
        if isinstance(self._drawn, Figure):
            bundle["image/png"] = _base64(self._drawn, min(100, WIDEST / self._drawn.get_figwidth()))
            metadata["image/png"] = {"alt": figures.describe(self._drawn)}
        else:
            bundle["text/html"] = self._drawn
        return bundle, metadata


def _base64(figure: Figure, dpi: float) -> str:
    return base64.b64encode(figures.to_png(figure, dpi)).decode()


def _image(figure: Figure) -> str:
    """A figure as an <img> with its description as alternative text."""
    return (
        f'<img alt="{html.escape(figures.describe(figure))}" src="data:image/png;base64,{_base64(figure, 120)}" '
        f'style="width: {100 * figure.get_figwidth():.0f}px; max-width: 100%; height: auto">'
    )


def _look(label: str, width: str = "38em") -> dict[str, Any]:
    """The options that all controls share: a label, its place, and one event per move instead of per pixel."""
    return {
        "description": label,
        "tooltip": label,
        "continuous_update": False,
        "style": {"description_width": "10em"},
        "layout": {"width": width, "max_width": "100%"},
    }


def _sentence(value: str, label: str = "sentence") -> ipywidgets.Text:
    return ipywidgets.Text(value, placeholder="write some words, then press Enter", **_look(label, "52em"))


def _choice(options: Sequence[str | tuple[str, str]], label: str) -> ipywidgets.ToggleButtons:
    """A row of buttons, which work with Tab and Space; a dropdown would need arrow keys, which JupyterLab keeps."""
    return ipywidgets.ToggleButtons(
        options=options,
        description=label,
        tooltip=label,
        layout={"display": "flex"},
        style={"description_width": "10em", "button_width": "auto"},
    )


def layer_states(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str]
) -> list[np.ndarray]:
    """The embeddings and the output of every layer at the tokens of some sentences, (tokens, dim) each."""
    batch = tokenizer(list(sentences), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    batch = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    return [hidden[batch["attention_mask"].bool()].float().cpu().numpy() for hidden in states]


class LayerPicker(ipywidgets.VBox):
    """A checkbox for each layer of a teacher, and the package's choices by name; `value` holds the ticked layers."""

    value = traitlets.Tuple()

    def __init__(self, layers: int) -> None:
        self.named = {choice: choose_layers(choice, layers, max(layers // 2, 1)) for choice in LAYER_CHOICES}
        self.preset = _choice([*LAYER_CHOICES, OWN], "choice by name")
        self.boxes = [
            ipywidgets.Checkbox(False, description=f"layer {i}", indent=False, layout={"width": "6.5em"})
            for i in range(layers)
        ]
        rows = ipywidgets.HBox(self.boxes, layout={"flex_flow": "row wrap", "max_width": "42em"})
        super().__init__([self.preset, rows])
        self._ticking = False
        self.preset.observe(self._take, "value")
        for box in self.boxes:
            box.observe(self._read, "value")
        self._take()

    def _take(self, _: Any = None) -> None:
        """Tick the layers of the chosen name."""
        if self.preset.value != OWN:
            self._tick(self.named[self.preset.value])

    @traitlets.observe("value")
    def _show(self, _: Any = None) -> None:
        """Tick the layers in `value` after it was set from outside, as by a reset."""
        if not self._ticking and self.value != self._ticked:
            self._tick(self.value)

    def _tick(self, layers: tuple[int, ...]) -> None:
        """Tick these layers, as one change for all boxes."""
        self._ticking = True
        for i, box in enumerate(self.boxes):
            box.value = i in layers
        self._ticking = False
        self._read()

    @property
    def _ticked(self) -> tuple[int, ...]:
        return tuple(i for i, box in enumerate(self.boxes) if box.value)

    def _read(self, _: Any = None) -> None:
        if not self._ticking:
            self.value = self._ticked
            if self.named.get(self.preset.value) != self.value:
                names = [name for name, layers in self.named.items() if layers == self.value]
                self.preset.value = names[0] if names else OWN


def layer_view(
    teacher: BertForMaskedLM, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str] | None = None
) -> View:
    """A view of the choice of layers: parameters, and the untrained student's nearness to its teacher (notebook 01)."""
    sentences = list(sentences or toyworld.documents(8, start=1_000_000))
    theirs = layer_states(teacher, tokenizer, sentences)
    alike = np.array([[linear_cka(a, b) for b in theirs] for a in theirs])

    @lru_cache(maxsize=32)
    def measured(layers: tuple[int, ...]) -> tuple[list[float], int]:
        student = build_student(teacher, layers, token_types="fold").eval()  # folded, so that only layers differ
        pairs = zip(layer_states(student, tokenizer, sentences)[1:], layers, strict=True)
        return [_cosine(own, theirs[layer + 1]) for own, layer in pairs], count_parameters(student)

    def draw(layers: tuple[int, ...]) -> Figure:
        if not layers:
            raise ValueError("a student needs a layer: tick at least one")
        cosines, parameters = measured(layers)
        return figures.plot_layer_choice(alike, layers, cosines, (parameters, count_parameters(teacher)))

    return View(draw, layers=LayerPicker(teacher.config.num_hidden_layers))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The mean cosine between the rows of two (tokens, dim) arrays."""
    return float(torch.cosine_similarity(torch.from_numpy(one), torch.from_numpy(other), dim=-1).mean())


def temperature_view(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str) -> View:
    """A view of the teacher's distribution for one hidden word, at T = 1 and at a chosen temperature (notebook 02)."""
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    logits = lru_cache(maxsize=32)(lambda sentence: guessing.mask_logits(teacher, tokenizer, sentence))

    def draw(sentence: str, temperature: float) -> Figure:
        own = logits(sentence)[..., : len(words)]  # a table may be padded with rows that are no words
        return figures.plot_temperature(own, words, (1, temperature))

    dial = ipywidgets.FloatLogSlider(2, base=2, min=-2, max=5, step=0.25, **_look("temperature"))
    return View(draw, sentence=_sentence(sentence), temperature=dial)


def loss_pulls(
    student: PreTrainedModel, teacher: PreTrainedModel, batch: Mapping[str, Tensor]
) -> tuple[dict[str, float], np.ndarray]:
    """The value of each loss on a batch, and the dot products (3, 3) of their gradients at all weights of the student.

    The temperature is 2. The length of the sum's gradient, for any weights of the losses, follows from these products.
    """
    read = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "output_hidden_states": True}
    with torch.no_grad():
        theirs = teacher(**read)
    ours = student(**read)
    _, terms = losses.triple_loss(
        (ours.logits, ours.hidden_states[-1]),
        (theirs.logits, theirs.hidden_states[-1]),
        batch["labels"],
        batch["attention_mask"],
        losses.LossWeights(1, 1, 1),
    )
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    pulls = [
        torch.cat([pull.flatten() for pull in torch.autograd.grad(term, weights, **how)]) for term in terms.values()
    ]
    gram = [[float(a @ b) for b in pulls] for a in pulls]
    return {name: term.item() for name, term in terms.items()}, np.array(gram)


def loss_weights_view(student: PreTrainedModel, teacher: PreTrainedModel, batch: Mapping[str, Tensor]) -> View:
    """A view of three weights on one real batch: each loss's share of the sum and of the gradient (notebook 02)."""
    values, gram = loss_pulls(student, teacher, batch)

    def draw(**weights: float) -> Figure:
        losses.LossWeights(**weights)  # raises for weights that leave nothing to learn
        return figures.plot_loss_weights(values, gram, weights)

    default = losses.LossWeights()
    sliders = {
        name: ipywidgets.FloatSlider(getattr(default, name), min=0, max=10, step=0.5, **_look(f"weight of L_{name}"))
        for name in values
    }
    return View(draw, **sliders)


def masking_shares(
    tokenizer: PreTrainedTokenizerBase, counts: np.ndarray, ids: Sequence[int], smoothing: float, draws: int = 300
) -> np.ndarray:
    """The share of `draws` draws in which each token of a sentence is hidden, (tokens,)."""
    masker = Masker.of(tokenizer, counts, smoothing)
    return np.mean([masker(np.array(ids), epoch, 0)[1] != masking.IGNORE for epoch in range(draws)], axis=0)


def masking_view(tokenizer: PreTrainedTokenizerBase, counts: np.ndarray, sentence: str) -> View:
    """A view of the words that are hidden, from all equally (smoothing 0) to mostly rare ones (notebook 03)."""

    @lru_cache(maxsize=64)
    def shares(ids: tuple[int, ...], smoothing: float, draws: int) -> np.ndarray:
        return masking_shares(tokenizer, counts, ids, smoothing, draws)[1:-1]  # [CLS] and [SEP] are never hidden

    def draw(sentence: str, smoothing: float, draws: int) -> Figure:
        ids = tuple(guessing.encode(tokenizer, sentence, LONGEST))
        if set(ids) <= set(tokenizer.all_special_ids):
            raise ValueError("special tokens are never hidden, and there is nothing else: write some words")
        chances = {f"smoothing {value:g}": shares(ids, value, draws) for value in (0.0, round(smoothing, 2))}
        return figures.plot_masking(tokenizer.convert_ids_to_tokens(ids[1:-1]), chances)

    return View(
        draw,
        sentence=_sentence(sentence),
        smoothing=ipywidgets.FloatSlider(0.7, min=0, max=1.5, step=0.1, **_look("smoothing")),
        draws=ipywidgets.IntSlider(300, min=20, max=1000, step=20, **_look("draws")),
    )


def fill_mask_view(models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, sentence: str) -> View:
    """A view of the best guesses of several models for one hidden word, side by side (notebook 03)."""

    def draw(sentence: str, guesses: int) -> Figure:
        return figures.plot_guesses(
            {name: guessing.best_guesses(model, tokenizer, sentence, guesses) for name, model in models.items()}
        )

    return View(draw, sentence=_sentence(sentence), guesses=ipywidgets.IntSlider(5, min=1, max=12, **_look("guesses")))


def answers_html(answers: Mapping[str, Sequence[Answer]], context: str) -> str:
    """HTML with each model's best answer, its share, the second answer, and the passage with the best one marked."""
    parts = []
    for model, (best, *others) in answers.items():
        then = "".join(f", then “{html.escape(answer.text)}” ({answer.probability:.0%})" for answer in others[:1])
        before, after = html.escape(context[: best.start]), html.escape(context[best.end :])
        colour = figures.COLOURS.get(model, figures.GREY)
        parts.append(
            f'<p style="border-left: 4px solid {colour}; padding-left: 0.6em; max-width: 60em; '
            'line-height: 1.4">'
            f"<b>{html.escape(model)}</b>: “{html.escape(best.text)}” ({best.probability:.0%}){then}<br>"
            f"{before}<b><u>{html.escape(best.text)}</u></b>{after}</p>"
        )
    return "\n".join(parts)


def question_view(
    models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, context: str, question: str
) -> View:
    """A view of a question about a passage, answered by several models fine-tuned on SQuAD (notebook 06)."""

    def draw(question: str, context: str) -> str:
        guessing.encode(tokenizer, question, LONGEST, "the question")
        if not context.strip():
            raise ValueError("the passage is empty: an answer is a piece of it")
        pieces = tokenizer(context, add_special_tokens=False, verbose=False)["input_ids"]
        if 2 * pieces.count(tokenizer.unk_token_id) >= len(pieces):
            raise ValueError("the model cannot spell most of this passage: write it in the language that it has read")
        return answers_html(
            {name: finetuning.ask(model, tokenizer, question, context) for name, model in models.items()}, context
        )

    passage = ipywidgets.Textarea(context, rows=6, placeholder="a passage", **_look("passage", "52em"))
    return View(draw, question=_sentence(question, "question"), context=passage)


def format_view(record: Mapping[str, Any]) -> View:
    """A view of the formats in a benchmark record that fit a device's limits of space, time and loss (notebook 07)."""
    biggest = max(row["bytes"] / 1e6 for row in record["formats"])
    slowest = max(row["ms"][1] for row in record["formats"])
    tops = {"megabytes": (1.1 * biggest, biggest / 2), "milliseconds": (1.1 * slowest, slowest / 4), "points": (2, 1)}
    sliders = {
        name: ipywidgets.FloatSlider(tops[name][1], min=0, max=tops[name][0], step=tops[name][0] / 100, **_look(unit))
        for name, unit in LIMITS
    }
    return View(lambda **limits: figures.plot_formats(record, **limits), **sliders)


def speed_view(records: Sequence[Mapping[str, Any]]) -> View:
    """A view of teacher against student in benchmark records: the effect on the ratio of time outside the models, or
    of a setting (notebook 07)."""
    runs = {record["name"]: record for record in records if record["kind"] == "benchmark" and "timings" in record}
    if not runs:
        raise ValueError("there is no benchmark among these records: run `distilnb benchmark` first")

    def draw(run: str, picture: str, overhead: float) -> Figure:
        if picture == "settings":
            return figures.plot_sweeps(runs[run])
        return figures.plot_overhead(runs[run], overhead * runs[run]["scores"]["overhead_ms_needed"])

    share = ipywidgets.FloatSlider(0.5, min=0, max=1.5, step=0.05, **_look("overhead share"))
    return View(
        draw,
        run=_choice([(_title(name), name) for name in runs], "run"),
        picture=_choice(["overhead", "settings"], "picture"),
        overhead=share,
    )


def _title(name: str) -> str:
    """The name that people read for a benchmark, such as "base, questions" for "benchmark-base-qa"."""
    return name.removeprefix("benchmark-").replace("-qa", "-questions").replace("-", ", ")


def ablation_view(records: Sequence[Mapping[str, Any]]) -> View:
    """A view of an ablation's cells by score, as differences, seeds or curves, for a number of pairs (notebook 08)."""
    records = [record for record in records if record["kind"] == "ablation"]
    seeds = sorted({record["seed"] for record in records})
    if not seeds:
        raise ValueError("there is no ablation among these records: run `distilnb ablate` first")
    measured = set.intersection(*(set(record["scores"]) for record in records))
    names = [name for name in (*SCORES, *records[0]["tasks"]) if name in measured]

    def draw(score: str, picture: str, pairs: int, random: bool) -> Figure:
        shown = [
            record
            for record in records
            if record["seed"] in seeds[:pairs] and (random or record["config"]["changes"].get("init") != "random")
        ]
        if picture == "curves":
            return figures.plot_heldout(shown)
        plot = figures.plot_ablation if picture == "differences" else figures.plot_pairs
        return plot(ablation.compare(shown, score).rows, records[0]["scale"], SCORES.get(score, f"{score} (points)"))

    return View(
        draw,
        score=_choice(names, "score"),
        picture=_choice(["differences", "seeds", "curves"], "picture"),
        pairs=ipywidgets.IntSlider(len(seeds), min=1, max=len(seeds), **_look("pairs of seeds")),
        random=ipywidgets.Checkbox(True, description="random starts too", style={"description_width": "10em"}),
    )
