"""What is claimed about speed: both sides of a claim in one run, on the device it is claimed for.

    timing      both sides measured in turn, a ratio with its spread
    bench       a device under measurement: its ceilings, and the file that takes what is found
    counted     what work costs at least, counted from shapes
    training    training as `pretrain` does it, and the plain loops beside it
    gpu         ceilings of a device first, then each kind of work against them
    pretrain    whole training steps against the loop that most people write
    views       views per second against torchvision and kornia
    probe       the linear probe against a plain loop, HDF5 against one raw file
    cell        where the seconds of a cell go beside its training steps

`occasion.sh` runs what one visit to a GPU is for.
"""
