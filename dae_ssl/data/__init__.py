"""Image sets: what is prepared in a store, and how it comes to be on a device.

    prepare     from what people have (downloads, archives, folders of images) to a prepared set
    prepared    what the records of prepared sets say, and whether a cell can be computed from them
    sets        the images themselves, uint8 on the device, and their splits

What a name stands for never changes: other images have another name.
"""
