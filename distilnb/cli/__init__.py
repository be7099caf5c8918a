"""The command line: parsing, and the few lines that combine the rooms."""

import os

# read when torch is imported, so that errors between processes become our sentences, not torch's C++ stack
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
# read when torch first makes a large tensor: pages of 2 MB, because a new model's first touch of each page is what
# building it costs
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# read when oneDNN makes its first kernels, a few for each shape: with batches of many lengths, the 1,024 that it keeps
# by itself are hundreds of megabytes that rarely come again (findings/cpu_memory_grows_with_each_new_length.sh)
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
