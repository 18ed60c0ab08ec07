"""Image sets: prepared once from what people have, and loaded as tensors on the device.

prepared   what the records of prepared sets say: whether they are there, and serve a cell (needs no PyTorch)
sets       image sets as uint8 tensors on the device, and their splits
sources    reading images from downloads, official archives, folder trees, scikit-learn's digits
prepare    preparing a set: read from a source, ordered, compared with the published one, committed
"""
