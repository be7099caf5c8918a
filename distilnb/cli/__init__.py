"""The command line: parsing, and the few lines that put the rooms together."""

import os

# read when torch is imported: what goes wrong between processes is told in a sentence of ours, not in torch's C++ stack
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
