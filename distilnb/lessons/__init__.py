"""The notebooks and what they need: runner, views with controls, exercises, the book."""
