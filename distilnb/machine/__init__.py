"""This computer: processor, memory, files, processes, signals and the Hub. It knows nothing of BERT."""
