"""Studies of the paper's tables and claims, one file each: ablation, size and speed, formats, the whole chain."""
