"""The command line: parsing, and the few lines that combine the rooms."""

import os

# read when torch is imported, so that errors between processes become our sentences, not torch's C++ stack
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# read when torch first makes a large tensor: pages of 2 MB, because a new model's first touch of each page is what
# building it costs
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
