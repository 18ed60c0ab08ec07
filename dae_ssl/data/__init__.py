"""Image sets: what is prepared in a store, and how it comes to be on a device.

    prepare      from what a source has to a prepared set: in one order, compared with the published one, committed
    prepared     what the records of prepared sets say, and whether a cell can be computed from them
    sets         the images themselves, uint8 on the device, and their splits
    sources      reading what people have: downloads, archives, folders of images, scikit-learn's digits
    photographs  patches of scikit-image's photographs, on which a few minutes of pretraining show

What a name stands for never changes: other images have another name.
"""
