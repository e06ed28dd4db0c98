"""Pretraining of small upstreams by masked prediction of clustered frames (HuBERT, Hsu et al. 2021)."""
