"""Adapters for trainers, each loaded when it is imported, none of them by ``import hvs_data``."""
