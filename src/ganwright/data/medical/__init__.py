"""Medical images as training data: NIfTI and DICOM, read in physical units, turned upright, kept at 16 bits.

`source.MedicalSource` is what `open_images` opens. Nothing that identifies a patient leaves this package: neither
header fields nor file names are stored anywhere. Writing is `ganwright.medical`'s.
"""
