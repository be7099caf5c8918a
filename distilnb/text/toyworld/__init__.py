"""Toyworld: a small made-up world that writes endless English-like text and knows the truth behind each sentence.

Its people, towns, trades and animals have *fixed facts*, the same in every document, which a model can only know
from pre-training; its *stories* must be followed from sentence to sentence. Because the world knows what is true, it
also poses tasks of exactly the shapes of GLUE's nine, SQuAD and IMDb. It is a place to learn the method in, not
evidence about the paper. Document ``i`` and row ``i`` are pure functions of ``(seed, i)``.

``words`` (tables) ← ``writer`` (the fixed facts, the choice of words) ← ``text`` (documents, tokenizer) ← ``tasks``;
``kinds`` says what kind of answer a question asks for.
"""

from .kinds import is_of_kind, kind_of
from .tasks import SIZES, TASKS, load_task, splits
from .text import TEXT_VERSION, document, documents, train_tokenizer
from .writer import world

__all__ = [
    "SIZES",
    "TASKS",
    "TEXT_VERSION",
    "document",
    "documents",
    "is_of_kind",
    "kind_of",
    "load_task",
    "splits",
    "train_tokenizer",
    "world",
]
