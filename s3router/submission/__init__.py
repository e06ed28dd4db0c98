"""Submissions to the SUPERB benchmark: building them and checking every line. No model is needed."""
