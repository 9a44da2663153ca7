"""Preference pairs: DPO and its variants."""
