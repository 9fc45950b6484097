"""Medical images as output: NIfTI volumes and DICOM secondary captures in physical units, written anew.

Nothing of an input's header is copied but what an allow-list names (spacing, orientation, modality, units). Reading
them is `ganwright.data.medical`'s.
"""

from ganwright.medical.applying import Written, apply_to_files
from ganwright.medical.dicom import write_dicom
from ganwright.medical.generating import generate_files
from ganwright.medical.nifti import write_nifti
from ganwright.medical.pseudonyms import pseudonym

__all__ = ["Written", "apply_to_files", "generate_files", "pseudonym", "write_dicom", "write_nifti"]
