"""Settings from flags, by cyclopts: a command's parameters are dataclasses, whose fields are its flags."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from cyclopts import App, CycloptsError, Group, Parameter, Token
from rich.console import Console

from .. import paths
from ..machine.files import check_place

DEFAULTS = "flag_defaults"  # the attribute that holds the argument of `command`
NUMBERS = (int, float, list[int], list[float])


def command(defaults: Callable[..., dict[str, Any]]) -> Callable[[Callable], Callable]:
    """A decorator for commands. `defaults` returns the defaults of flags that differ from those of their dataclasses;
    its parameters are the flags on which they depend, such as `scale`, each as typed or None."""

    def mark(function: Callable) -> Callable:
        setattr(function, DEFAULTS, defaults)
        return function

    return mark


def run_command(function: Callable, argv: Sequence[str], name: str) -> None:
    """Call a command with the settings in these words, or print its help if they ask for it.

    Raises ValueError for an unknown flag and for a value that does not fit, OSError where nothing can be written.
    """
    if "argv" in inspect.signature(function).parameters:  # it starts another command and reads the words itself
        return function(list(argv))
    settings = read_settings(function, argv, name)
    if settings is not None:
        check_places(settings)
        function(*settings)


def check_places(settings: Sequence[Any]) -> None:
    """Try the folders that a command will write to, before it does any work."""
    flags = [(one, field) for one in settings for field in fields(one) if "place" in field.metadata]
    kept = [(getattr(one, field.name), field.metadata["place"]) for one, field in flags]
    places = {given for given, _ in kept if given}
    if not kept or any(place == "and runs" or (place == "runs" and not given) for given, place in kept):
        places.add(paths.home() / "runs")
    for place in places:
        check_place(Path(place))


def read_settings(function: Callable, argv: Sequence[str], name: str) -> tuple[Any, ...] | None:
    """The dataclasses of a command, filled from flags; None after printing the help that was asked for."""
    kinds = [kind for key, kind in get_type_hints(function).items() if key != "return"]
    make = getattr(function, DEFAULTS, dict)
    early = {key: _typed(argv, key) for key in inspect.signature(make).parameters} if make is not dict else {}
    defaults = make(**early)
    plain = Console(force_jupyter=False)  # in a notebook, too, help goes to where print goes
    app = App(
        name=f"distilnb {name}", help_format="plaintext", version_flags=[], result_action="return_value", console=plain
    )
    app["--help"].show = False
    app.default(_taking(kinds, defaults, function.__doc__))
    try:
        values = app(list(argv), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"{reason}; `distilnb {name} --help` lists all options") from error
    if values is None:
        return None
    filled = {
        field.name: defaults.get(field.name, _default(field)) for kind in kinds for field in fields(kind)
    } | values
    return tuple(kind(**{field.name: filled[field.name] for field in fields(kind)}) for kind in kinds)


def _typed(argv: Sequence[str], name: str) -> str | None:
    """The value of a flag, the last where it is repeated, that is read first: defaults of others depend on it."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=False):
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") == "--" + name.replace("_", "-"):
            found = value if equals else following
    return found


def _taking(kinds: Sequence[type], defaults: dict[str, Any], about: str | None) -> Callable[..., dict[str, Any]]:
    """A function whose keyword parameters are the fields of these dataclasses, from which cyclopts reads the flags."""

    def gather(**values: Any) -> dict[str, Any]:
        return values

    parameters, titles = {}, [re.sub(r"(Options|Config|Settings)$", "", kind.__name__) for kind in kinds]
    groups = {title: Group(title, sort_key=titles.index(title)) for title in titles}
    for title, kind in zip(titles, kinds, strict=True):
        group, hints = groups[title], get_type_hints(kind)
        for field in fields(kind):
            default = defaults.get(field.name, _default(field))
            annotation = _annotated(field, hints[field.name], default, group)
            made = inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            parameters.setdefault(field.name, made)  # a flag of two dataclasses fills both
    gather.__signature__ = inspect.Signature(list(parameters.values()))
    gather.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    gather.__doc__ = re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.cleandoc(about or ""))  # the terminal breaks the lines
    return gather


def _default(field: Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _annotated(field: Field, kind: Any, default: Any, group: Group) -> Any:
    if "choices" in field.metadata:
        kind = Literal[tuple(field.metadata["choices"])]
    more = {"converter": _numbers} if kind in NUMBERS else {}
    if default is not True:
        more["negative"] = ()
    if joined := field.metadata.get("several"):  # each time that the flag is given adds to it
        kind, more["converter"] = list[str], partial(_joined, joined)
    shown = bool(default) and "default:" not in field.metadata.get("help", "")
    return Annotated[
        kind,
        Parameter(
            help=field.metadata.get("help", ""),
            group=group,
            show_default=_short if shown else False,
            consume_multiple=get_origin(kind) in (list, tuple) and not joined,
            allow_leading_hyphen=kind is str or bool(joined),
            allow_repeating=True,  # the last one counts
            **more,
        ),
    ]


def _short(default: Any) -> str:
    """A default as help shows it: a path below the working folder is relative to it."""
    path = Path(str(default))
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else default)


def _joined(separator: str, _: type, tokens: Sequence[Token]) -> str:
    """The words of a flag that was given once or more, as if they had been joined at once."""
    return separator.join(token.value for token in tokens)


def _numbers(kind: type, tokens: Sequence[Token]) -> Any:
    """The number, or the list of numbers, that these words say."""
    if get_origin(kind) is not list:
        return _number(kind, tokens[0].value)
    try:
        return [_number(get_args(kind)[0], token.value) for token in tokens]
    except ValueError as error:  # in which cyclopts does not name the flag of a list
        raise ValueError(f"Invalid value for {tokens[0].keyword}: {error}") from None


def _number(kind: type, word: str) -> int | float:
    """A number, which may be written as 2_000_000 or 2e6 where it is whole."""
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"'{word}' is no number") from None
    if kind is int and not (math.isfinite(value) and value == int(value)):
        raise ValueError(f"{word} is no whole number")
    return kind(value)
