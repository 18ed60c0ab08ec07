"""Benchmarks of the claims about speed, each of which measures both sides in one run on the claimed device.

    timing      times both sides in turn, and gives their ratio with its spread
    bench       holds a device under measurement, its ceilings, and the file of results
    counted     counts from shapes the operations and bytes that work needs at least
    training    times training as `pretrain` does it, and the plain loops
    gpu         measures the ceilings of a device, then compares each kind of work with them
    pretrain    compares whole training steps with the loop that most people write
    views       compares views per second with torchvision and kornia
    probe       compares the linear probe with a plain loop, and HDF5 with one raw file
    cell        shows where the seconds of a cell go, apart from its training steps

`occasion.sh` checks, measures and computes while a GPU is available for some minutes.
"""
