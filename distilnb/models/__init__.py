"""BERT, its student, and their arithmetic."""
