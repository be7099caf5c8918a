"""Sections 2 and 3 of the paper: the triple loss and the loop that trains with it."""
