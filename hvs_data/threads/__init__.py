"""Threads: this process's fair share of the CPUs and its rank, turns with objects that one thread at a time may use, and breaking off."""
