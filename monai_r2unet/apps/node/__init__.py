"""The DICOM node: what arrives by C-STORE is segmented by rules, and the result sent to an archive."""
