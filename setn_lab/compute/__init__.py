"""What is computed on: the device, random streams, worker processes, process groups."""
