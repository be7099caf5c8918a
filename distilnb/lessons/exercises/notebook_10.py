"""Checks of notebook 10: XLM-R halved, a choice that keeps the pattern, kinds of kept layers, names of tensors."""

from collections.abc import Callable, Sequence

from transformers import ModernBertConfig, XLMRobertaConfig

from ...models.arithmetic import parameter_groups
from ...models.student import student_config
from . import NotYet, ask, close, exercise

XLMR = XLMRobertaConfig(vocab_size=250002, max_position_embeddings=514, type_vocab_size=1)  # its base model
MODERN = ModernBertConfig()  # ModernBERT-base: 22 layers, the first and every third after it see the whole text
THIRDS = (0, 6), (7, 13), (14, 21)  # of its layers


@exercise("10.1", 2)
def what_is_left(answer: float) -> str:
    """The percentage of XLM-R base's parameters that a student with half the layers keeps."""
    teacher, student = (parameter_groups(config) for config in (XLMR, student_config(XLMR, 6)))
    share = 100 * sum(student.values()) / sum(teacher.values())
    if close(answer, share, relative=0, absolute=0.6):
        words = 100 * teacher["word embeddings"] / sum(teacher.values())
        return f"{share:.0f} %: {words:.0f} % of the teacher are its word embeddings, which no layer holds."
    if close(answer, 100 - share, relative=0, absolute=0.6):
        raise NotYet("that is the part that goes; the part that is kept is asked for")
    if close(answer, share / 100, relative=0, absolute=0.01):
        raise NotYet("as a fraction that is right; it is asked for in percent, from 0 to 100")
    if 40 <= answer <= 60:
        raise NotYet("only the layers are halved; how much of this model lies in its layers? Compare parameter_groups")
    raise NotYet("divide the sum of parameter_groups of the student's configuration by the teacher's, times 100")


@exercise("10.2", 5)
def pattern(answer: Sequence[int]) -> str:
    """Eight layers of ModernBERT-base whose kinds have the same pattern as the teacher's."""
    kept = [int(i) for i in answer]
    if len(kept) != 8 or sorted(set(kept)) != kept:
        raise NotYet(f"eight different layers in order are asked for; these are {len(kept)}: {kept}")
    if kept[0] != 0:
        raise NotYet("the first must be layer 0: it alone has no norm before its attention, and can stand nowhere else")
    if kept[-1] >= MODERN.num_hidden_layers:
        raise NotYet(f"layer {kept[-1]} does not exist: this teacher has layers 0 to {MODERN.num_hidden_layers - 1}")
    kinds = [MODERN.layer_types[i] for i in kept]
    if kinds == MODERN.layer_types[:8]:
        if kept == list(range(8)):
            raise NotYet("the first eight keep the pattern, true; but spread them: two or more from each third")
        if kept[-1] < 19:
            raise NotYet("the pattern is right; now spread the layers out, so that the last is 19 or higher")
        for low, high in THIRDS:
            if (held := sum(low <= layer <= high for layer in kept)) < 2:
                raise NotYet(
                    f"the pattern is right; now spread the layers out: of layers {low} to {high} yours keeps {held}, "
                    "at least two are asked for"
                )
        return f"layers {kept}: one that sees all, two local ones, and so on, as in the teacher."
    place = next(i for i, kind in enumerate(kinds) if kind != MODERN.layer_types[i])
    raise NotYet(
        f"place {place} should be {MODERN.layer_types[place]}, but layer {kept[place]} is {kinds[place]}; layers "
        "0, 3, 6 … see everything"
    )


@exercise("10.3", 10)
def kinds(answer: Callable[[list[str], list[int]], list[str]]) -> str:
    """The `layer_types` of a student made of these layers."""
    for kept in ([0, 2, 4, 7, 9, 11], [0, 1, 3], list(range(0, 22, 2))):
        right = [MODERN.layer_types[i] for i in kept]
        given = list(ask(answer, list(MODERN.layer_types), list(kept)))
        if given == right:
            continue
        if given == MODERN.layer_types[: len(kept)]:
            raise NotYet(f"for {kept} you give the kinds of the first {len(kept)} layers: that is the naive copy")
        if len(given) != len(kept):
            raise NotYet(f"for {kept} you give {len(given)} kinds; the student has {len(kept)} layers, a kind for each")
        raise NotYet(f"for {kept} the right kinds are {right}: take the entry of the old place for each new one")
    return "each layer keeps the kind it was trained as, and the saved configuration says so."


@exercise("10.4", 20)
def places(answer: Callable[[str, list[int]], list[str]]) -> str:
    """The names that a tensor of ModernBERT has in a student made of these layers."""
    cases = {
        "model.layers.4.attn.Wqkv.weight": ["model.layers.2.attn.Wqkv.weight"],
        "model.layers.11.mlp.Wo.weight": ["model.layers.5.mlp.Wo.weight"],
        "model.layers.1.mlp.Wo.weight": [],
        "model.final_norm.weight": ["model.final_norm.weight"],
        "head.dense.weight": ["head.dense.weight"],
        "model.layers.0.mlp_norm.weight": ["model.layers.0.mlp_norm.weight"],
    }
    kept = [0, 2, 4, 7, 9, 11]
    for name, right in cases.items():
        given = list(ask(answer, name, list(kept)))
        if given != right:
            raise NotYet(f"{name} with layers {kept}: yours is {given}, right is {right}. {_place_hint(name, given)}")
    twice = list(ask(answer, "model.layers.3.mlp.Wo.weight", [0, 3, 3]))
    if twice != ["model.layers.1.mlp.Wo.weight", "model.layers.2.mlp.Wo.weight"]:
        raise NotYet(f"a layer may be taken twice: with layers [0, 3, 3], layer 3 has two places, yours is {twice}")
    return "that is the whole map; what is left is load_state_dict, strictly."


def _place_hint(name: str, given: list[str]) -> str:
    if given == [name]:
        return "The number in a name is the old place; the student counts anew"
    if ".layers." not in name:
        return "What belongs to no layer stays where it is"
    if ".1." in name or ".11." in name:
        return "Compare whole numbers: layer 1 is not kept, and layer 11 is no layer 1"
    return "Find the old number among the kept layers; its place there is the new one"
