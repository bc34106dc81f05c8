"""The REST API, its domains and rows, the object store and the queue."""

__version__ = "0.3.0"
