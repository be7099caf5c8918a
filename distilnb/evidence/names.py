"""Names that records, tables and figures share: roles in the order in which a reader compares them."""

REHEARSAL = "rehearsal"  # the scale of what came from random weights: it fills no table
ROLES = {  # what a record calls a model → what people call it
    "released": "released DistilBERT",
    "published": "the encoder as published",
    "teacher": "teacher",
    "student": "student",
    "student_2": "student of another seed",
    "student_d": "student, taught twice (D)",
    "undistilled": "twin without a teacher",
    "undistilled_2": "twin of another seed",
    "undistilled_d": "twin, taught the task",
    "scratch": "random start, text alone",
    "untrained": "the start, untrained",
    "random": "random weights",
}
RUNS = {"distil": "student", "undistilled": "undistilled", "scratch": "scratch", "teacher": "teacher"}


def role_of(name: str) -> str:
    """The role in a run's name, such as "student" in "distil-mini"; a name that is no run's stays as it is."""
    return RUNS.get(name.split("-")[0], name) if "-" in name else name


def human_name(name: str) -> str:
    """What people call a role, or the model of a run; an unknown name stays as it is."""
    return ROLES.get(role_of(name), name)


def rank(name: str) -> int:
    """The place of a role in the order of comparison; unknown names come last."""
    return list(ROLES).index(name) if name in ROLES else len(ROLES)
