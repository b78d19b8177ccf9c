"""The plant held against the real kernel: the same work under a real quota and in the model."""
