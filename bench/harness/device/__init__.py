"""A CUDA device: the machine around it, its kernels one by one, the tests that need it, and what training steps cost on it."""
