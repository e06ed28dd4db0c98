"""Error rates with their counts, their spread over seeds and their confidence intervals; files for other scorers."""
