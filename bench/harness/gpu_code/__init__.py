"""What compiled GPU code would do: launches as they would be made, their machine code, executed on the CPU and counted."""
