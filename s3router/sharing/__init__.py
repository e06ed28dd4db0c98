"""Packs in repositories of a HuggingFace hub: addresses, model cards, push and pull."""
