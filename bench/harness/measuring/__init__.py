"""How a number is taken: the machine, repeats in alternation, memory, the tests before the times, the file of the result."""
