"""What a frozen encoder is worth: arrays in, scores out.

    features        representations in HDF5, written once and read by everything below
    probe           the study's linear probe, and a logistic regression that needs no tuning
    kmeans          k-means clusters of representations, compared with the classes
    reconstruction  how well reconstructions match what they were made from and what they should be

Every choice is made on validation images; test images are read once for each reported cell.
"""
