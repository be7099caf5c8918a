"""One file for each table or claim: ablation, size and speed, formats for devices, the whole chain."""
