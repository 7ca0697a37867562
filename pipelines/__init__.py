"""Bytes in, pixels out: decoding, and the engines that render views."""
