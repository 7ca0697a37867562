"""The parts of the selector: what may be chosen, the forward that scores it, and the rules of choice."""
