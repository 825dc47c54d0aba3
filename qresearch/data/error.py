"""The error of a data file that is missing, corrupt or out of reach."""


class DataError(Exception):
    """A data file cannot be used; the message names the file and the way out."""
