"""A whole recogniser: Whisper's encoder and decoder under masks (or LoRA, or all weights), with its own sequence loss.

transformers' Seq2SeqTrainer trains; the vocabulary is Whisper's, so nothing but the adaptation itself is learnt.
"""
