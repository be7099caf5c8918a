"""The command line: parsing, and the few lines that combine the rooms."""

import os

# read when torch is imported, so that errors between processes become our sentences, not torch's C++ stack
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
