"""Other people's checkpoints, read without running anything that is in them, and ours written for other people."""

from ganwright.interop.export import export_state
from ganwright.interop.importing import import_checkpoint
from ganwright.interop.restricted import CheckpointImportError, ImportRefusedError

__all__ = ["CheckpointImportError", "ImportRefusedError", "export_state", "import_checkpoint"]
