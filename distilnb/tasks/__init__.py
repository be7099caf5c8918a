"""Section 4 of the paper: GLUE, IMDb and SQuAD, fine-tuned and scored."""
