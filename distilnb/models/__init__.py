"""Teachers, the students cut from them, and their arithmetic."""
