"""Images: sets on the device, folders, batches, and the sources of a training."""
