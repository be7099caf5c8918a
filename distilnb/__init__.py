"""distilnb: DistilBERT (arXiv 1910.01108) rebuilt in numbered notebooks, one small module per idea."""

__version__ = "0.1.0"
