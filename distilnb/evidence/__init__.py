"""What a run leaves behind, how runs may be compared, and what the paper printed."""
