"""What a frozen encoder is worth: arrays in, scores out.

    features        representations in HDF5, written once and read by everything below
    probe           the study's linear probe, and a logistic regression without tuning beside it
    kmeans          clusters of representations against the classes
    reconstruction  how well reconstructions match what they were made from and what they should be

What is chosen is chosen on validation images; test images are read once for each cell that is reported.
"""
