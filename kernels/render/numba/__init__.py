"""Renderer for hosts without a GPU: float32 arithmetic on rows of pixels that stay in cache, compiled once, GIL released."""
