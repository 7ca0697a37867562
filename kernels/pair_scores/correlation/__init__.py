"""Every image's share of the cross-correlation loss of two views."""
