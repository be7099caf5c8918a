"""Text: from documents to token blocks and masked samples."""
