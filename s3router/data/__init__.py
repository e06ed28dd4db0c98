"""Audio reading, Kaldi data directories, token lists and text normalisation."""
