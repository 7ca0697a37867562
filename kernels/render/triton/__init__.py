"""Renderer for CUDA: all views of a batch of images of any sizes in a handful of launches, without asking the device anything."""
