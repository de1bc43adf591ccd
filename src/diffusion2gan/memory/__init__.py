"""Memory on paper: the peak memory of a training or a job on a GPU, counted at full size without a GPU.

Fake tensors have shapes and types but no data. The project's own code runs on them, and the bytes of all live
storages are added up.
"""
