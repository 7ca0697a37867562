"""What the benchmarks beside this folder share, in rooms; each imports only rooms above it in this list.

measuring: how a number is taken, the machine that it is taken on, and the file that it is written to.
data: photographs, CIFAR-10, labelled images with a test split.
gpu_code: launches compiled for a GPU, executed on the CPU and counted, and the time that they would take at the best.
loaders: the loaders that are compared, stage by stage and whole, and those of other libraries.
pretraining: methods, networks, training, arms, experiments and their runs.
selection: settings of the selector, and how much of the hardness they capture.
device: a CUDA device, its machine and its tests; views, loaders and training steps on it.
reporting: tables, plots and pages of results.
"""
