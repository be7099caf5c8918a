"""Names that records, tables and figures share."""

REHEARSAL = "rehearsal"  # the scale of what came from random weights: it fills no table
