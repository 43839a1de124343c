"""From files to what the network takes: images, targets, the cache, augmentation."""
