"""Evidence: the records of runs, the rules for comparing them, and the paper's numbers."""
