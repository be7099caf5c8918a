"""A settings field with its help text, for the dataclasses that commands read their flags from."""

from dataclasses import field
from typing import Any


def setting(default: Any, text: str, **more: Any) -> Any:
    """A field of a settings dataclass with its help text, which `--help` prints; `choices` limits the values.

    A `place` is a folder that files are written to, which is tried before any work: "runs" where runs/ stands for one
    that is not given, "and runs" where files go to runs/ too, else True. `several` is what joins the words of a flag
    that may be repeated.
    """
    return field(default=default, metadata={"help": text, **more})
