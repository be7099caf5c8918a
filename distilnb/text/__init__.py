"""From documents to masked rows."""
