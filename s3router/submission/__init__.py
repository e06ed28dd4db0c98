"""Submissions to SUPERB: built and checked line by line. Needs no model."""
