"""Audio reading, Kaldi data directories, token lists, text normalisation and phonemes."""
