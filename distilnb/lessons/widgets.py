"""The lessons' figures with controls: each view redraws a figure of the package whenever a slider is moved.

Core ipywidgets only (`pip install "distilnb[notebooks]"`; Colab and Jupyter bring it). A view computes what is slow
once, so that a move costs the drawing alone, and tells in a line what cannot be drawn. Where no widget can live (on
GitHub, in a page), what is left of a view in the notebook is its picture as it was first drawn.
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
from .display import WIDEST, describe

LONGEST = 64  # tokens of a sentence that is drawn token by token
OWN = "your own"  # a choice of layers that has no name
SCORES = {
    "macro": "the macro score (points)",
    "mlm_loss": "the held-out MLM loss",
    "agreement": "agreement with the teacher (points)",
}
LIMITS = (("megabytes", "MB at most"), ("milliseconds", "ms at most"), ("points", "points at most"))
HINT = "Run this notebook in Jupyter or on Colab to move the controls of this view: "


class View(ipywidgets.VBox):
    """Controls, and below them what `draw(**values)` makes of their values: a Figure, or text as HTML.

    A button takes all controls back to where they began. A ValueError is told as the line that it is, any other error
    by its kind and in one line too.
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
        """Take all controls back to where they began; the picture is drawn once."""
        self._quiet = True
        for name, value in self.start.items():
            self.controls[name].value = value
        self._quiet = False
        self.redraw()

    def redraw(self, _: Any = None) -> None:
        """Draw what the controls say now."""
        if self._quiet:
            return
        try:
            self._drawn = self.draw(**{name: control.value for name, control in self.controls.items()})
        except Exception as error:  # whatever a reader types, the lesson goes on
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
            metadata["image/png"] = {"alt": describe(self._drawn)}
        else:
            bundle["text/html"] = self._drawn
        return bundle, metadata


def _base64(figure: Figure, dpi: float) -> str:
    return base64.b64encode(figures.to_png(figure, dpi)).decode()


def _image(figure: Figure) -> str:
    """A figure as an <img> with its description as alternative text."""
    return (
        f'<img alt="{html.escape(describe(figure))}" src="data:image/png;base64,{_base64(figure, 120)}" '
        f'style="width: {100 * figure.get_figwidth():.0f}px; max-width: 100%; height: auto">'
    )


def _look(label: str, width: str = "38em") -> dict[str, Any]:
    """What all controls share: a label, the same place for it, and an event per move instead of per pixel."""
    return {
        "description": label,
        "tooltip": label,
        "continuous_update": False,
        "style": {"description_width": "10em"},
        "layout": {"width": width, "max_width": "100%"},
    }


def _sentence(value: str, label: str = "sentence") -> ipywidgets.Text:
    return ipywidgets.Text(value, placeholder="write some words, then press Enter", **_look(label, "52em"))


def _choice(options: Sequence[str], label: str) -> ipywidgets.ToggleButtons:
    """Buttons rather than a list that opens: JupyterLab keeps the arrow keys to itself, Tab and Space work."""
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
    """Embeddings and the output of every layer at the tokens of some sentences, (tokens, dim) each."""
    batch = tokenizer(list(sentences), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    batch = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    return [hidden[batch["attention_mask"].bool()].float().cpu().numpy() for hidden in states]


class LayerPicker(ipywidgets.VBox):
    """A box to tick for each layer of a teacher, and the package's choices by name; `value` holds the ticked layers."""

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
        """Tick what the chosen name stands for: one change, however many boxes."""
        if self.preset.value != OWN:
            self._ticking = True
            for i, box in enumerate(self.boxes):
                box.value = i in self.named[self.preset.value]
            self._ticking = False
            self._read()

    @traitlets.observe("value")
    def _show(self, _: Any = None) -> None:
        """Tick what `value` says, where it was set from outside, as by a reset."""
        if not self._ticking and self.value != tuple(i for i, box in enumerate(self.boxes) if box.value):
            self._ticking = True
            for i, box in enumerate(self.boxes):
                box.value = i in self.value
            self._ticking = False
            self._read()

    def _read(self, _: Any = None) -> None:
        if not self._ticking:
            self.value = tuple(i for i, box in enumerate(self.boxes) if box.value)
            if self.named.get(self.preset.value) != self.value:
                names = [name for name, layers in self.named.items() if layers == self.value]
                self.preset.value = names[0] if names else OWN


def layer_view(
    teacher: BertForMaskedLM, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str] | None = None
) -> View:
    """Which of the teacher's layers to keep: parameters, and how near the untrained student stays (notebook 01)."""
    sentences = list(sentences or toyworld.documents(8, start=1_000_000))
    theirs = layer_states(teacher, tokenizer, sentences)
    alike = np.array([[linear_cka(a, b) for b in theirs] for a in theirs])

    @lru_cache(maxsize=32)
    def measured(layers: tuple[int, ...]) -> tuple[list[float], int]:
        student = build_student(teacher, layers, token_types="fold").eval()  # so that only layers differ
        pairs = zip(layer_states(student, tokenizer, sentences)[1:], layers, strict=True)
        return [_cosine(own, theirs[layer + 1]) for own, layer in pairs], count_parameters(student)

    def draw(layers: tuple[int, ...]) -> Figure:
        if not layers:
            raise ValueError("a student needs a layer: tick at least one")
        cosines, parameters = measured(layers)
        return figures.plot_layer_choice(alike, layers, cosines, (parameters, count_parameters(teacher)))

    return View(draw, layers=LayerPicker(teacher.config.num_hidden_layers))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Mean cosine of the rows of two (tokens, dim)."""
    return float(torch.cosine_similarity(torch.from_numpy(one), torch.from_numpy(other), dim=-1).mean())


def temperature_view(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentence: str) -> View:
    """The teacher's distribution for one hidden word, at T = 1 and at a temperature of the reader's (notebook 02)."""
    words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    logits = lru_cache(maxsize=32)(lambda sentence: guessing.mask_logits(teacher, tokenizer, sentence))

    def draw(sentence: str, temperature: float) -> Figure:
        return figures.plot_temperature(logits(sentence), words, (1, temperature))

    dial = ipywidgets.FloatLogSlider(2, base=2, min=-2, max=5, step=0.25, **_look("temperature"))
    return View(draw, sentence=_sentence(sentence), temperature=dial)


def loss_pulls(
    student: PreTrainedModel, teacher: PreTrainedModel, batch: Mapping[str, Tensor], temperature: float = 2.0
) -> tuple[dict[str, float], np.ndarray]:
    """The value of each loss on a batch, and the dot products (3, 3) of their gradients at all weights of the student.

    The sum's gradient for any weights of the losses follows from these.
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
        temperature,
    )
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    pulls = [
        torch.cat(
            [
                pull.flatten()
                for pull in torch.autograd.grad(
                    term, weights, retain_graph=True, allow_unused=True, materialize_grads=True
                )
            ]
        )
        for term in terms.values()
    ]
    gram = [[float(a @ b) for b in pulls] for a in pulls]
    return {name: term.item() for name, term in terms.items()}, np.array(gram)


def loss_weights_view(student: PreTrainedModel, teacher: PreTrainedModel, batch: Mapping[str, Tensor]) -> View:
    """Three weights on one real batch: who fills the sum, and who moves the student (notebook 02)."""
    values, gram = loss_pulls(student, teacher, batch)

    def draw(**weights: float) -> Figure:
        losses.LossWeights(**weights)  # refuses weights that leave nothing to learn
        return figures.plot_loss_weights(values, gram, weights)

    default = losses.LossWeights()
    return View(
        draw,
        **{
            name: ipywidgets.FloatSlider(
                getattr(default, name), min=0, max=10, step=0.5, **_look(f"weight of L_{name}")
            )
            for name in values
        },
    )


def masking_shares(
    tokenizer: PreTrainedTokenizerBase, counts: np.ndarray, ids: Sequence[int], smoothing: float, draws: int = 300
) -> np.ndarray:
    """How often each token of a sentence is hidden in so many draws: shares (tokens,)."""
    masker = Masker.of(tokenizer, counts, smoothing)
    return np.mean([masker(np.array(ids), epoch, 0)[1] != masking.IGNORE for epoch in range(draws)], axis=0)


def masking_view(tokenizer: PreTrainedTokenizerBase, counts: np.ndarray, sentence: str) -> View:
    """Which words are hidden, all alike (smoothing 0) or the rare ones first (notebook 03)."""

    @lru_cache(maxsize=64)
    def shares(ids: tuple[int, ...], smoothing: float, draws: int) -> np.ndarray:
        return masking_shares(tokenizer, counts, ids, smoothing, draws)[1:-1]  # [CLS] and [SEP] never are

    def draw(sentence: str, smoothing: float, draws: int) -> Figure:
        ids = tuple(guessing.encode(tokenizer, sentence, LONGEST))
        chances = {f"smoothing {value:g}": shares(ids, value, draws) for value in (0.0, round(smoothing, 2))}
        return figures.plot_masking(tokenizer.convert_ids_to_tokens(ids[1:-1]), chances)

    return View(
        draw,
        sentence=_sentence(sentence),
        smoothing=ipywidgets.FloatSlider(0.7, min=0, max=1.5, step=0.1, **_look("smoothing")),
        draws=ipywidgets.IntSlider(300, min=20, max=1000, step=20, **_look("draws")),
    )


def fill_mask_view(models: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, sentence: str) -> View:
    """The best guesses of several models for one hidden word, side by side (notebook 03)."""

    def draw(sentence: str, guesses: int) -> Figure:
        return figures.plot_guesses(
            {name: guessing.best_guesses(model, tokenizer, sentence, guesses) for name, model in models.items()}
        )

    return View(draw, sentence=_sentence(sentence), guesses=ipywidgets.IntSlider(5, min=1, max=12, **_look("guesses")))


def answers_html(answers: Mapping[str, Sequence[Answer]], context: str) -> str:
    """Each model's answers, its share and second thought, and the passage with the first one set off."""
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
    """A question about a passage, answered by several models that were fine-tuned on SQuAD (notebook 06)."""

    def draw(question: str, context: str) -> str:
        guessing.encode(tokenizer, question, LONGEST, "the question")
        if not context.strip():
            raise ValueError("the passage is empty: an answer is a piece of it")
        return answers_html(
            {name: finetuning.ask(model, tokenizer, question, context) for name, model in models.items()}, context
        )

    passage = ipywidgets.Textarea(context, rows=6, placeholder="a passage", **_look("passage", "52em"))
    return View(draw, question=_sentence(question, "question"), context=passage)


def format_view(record: Mapping[str, Any]) -> View:
    """Which format fits a device of so much room, patience and tolerance: a benchmark record (notebook 07)."""
    biggest = max(row["bytes"] / 1e6 for row in record["formats"])
    slowest = max(row["ms"][1] for row in record["formats"])
    tops = {"megabytes": (1.1 * biggest, biggest / 2), "milliseconds": (1.1 * slowest, slowest / 4), "points": (2, 1)}
    sliders = {
        name: ipywidgets.FloatSlider(tops[name][1], min=0, max=tops[name][0], step=tops[name][0] / 100, **_look(unit))
        for name, unit in LIMITS
    }
    return View(lambda **limits: figures.plot_formats(record, **limits), **sliders)


def speed_view(records: Sequence[Mapping[str, Any]]) -> View:
    """Teacher against student in benchmark records: what time outside the models, or a setting, does to the ratio
    (notebook 07)."""
    runs = {record["name"]: record for record in records if record["kind"] == "benchmark" and "timings" in record}
    if not runs:
        raise ValueError("there is no benchmark among these records: run `distilnb benchmark` first")

    def draw(run: str, picture: str, overhead: float) -> Figure:
        if picture == "settings":
            return figures.plot_sweeps(runs[run])
        return figures.plot_overhead(runs[run], overhead * runs[run]["scores"]["overhead_ms_needed"])

    share = ipywidgets.FloatSlider(0.5, min=0, max=1.5, step=0.05, **_look("overhead share"))
    return View(
        draw, run=_choice(list(runs), "run"), picture=_choice(["overhead", "settings"], "picture"), overhead=share
    )


def ablation_view(records: Sequence[Mapping[str, Any]]) -> View:
    """The cells of an ablation by score, as differences, seeds or curves, with so many pairs (notebook 08)."""
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
