"""What a user did wrong, as one family of ``ValueError``.

Every message says what is wrong, what was got, what is allowed and how to mend it. ``assert`` is for our own bugs.
"""


class EpilmError(ValueError):
    """Base of all errors that a user can mend; the command line prints them without a traceback."""


class RecipeError(EpilmError):
    """A recipe or an override is wrong: unknown key, wrong type, values that contradict each other."""


class GenomeError(EpilmError):
    """A genome file is missing, truncated, of another assembly, or not what its name says."""


class CorpusError(EpilmError):
    """A corpus is incomplete, corrupt, or lacks what was asked of it."""


class StorageError(EpilmError):
    """A folder or bucket cannot be read or written."""


class RunExistsError(StorageError):
    """A run folder exists already and neither ``--resume`` nor ``--overwrite`` was given."""


class CheckpointError(EpilmError):
    """A checkpoint belongs to another recipe or corpus, or is unreadable."""


class LeakError(EpilmError):
    """An evaluation would use contigs or cell types that the model has been trained on."""
