"""Checks before the server starts, because MONAI Label would start regardless or fail with pages of errors."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from monai_r2unet.errors import InputError

__all__ = ["ENDINGS", "check_port", "check_studies"]

_LOWER = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
ENDINGS = (*_LOWER, *(ending.upper() for ending in _LOWER))
"""Endings of image files; MONAI Label distinguishes upper and lower case."""

_OWN = ("labels", "datastore_v2.json", ".lock")  # MONAI Label's own files in the folder


def check_studies(studies: str) -> None:
    """Check that there is something to label, or an empty folder to which images can be sent.

    Args:
        studies: Folder with images, or address of a DICOMweb archive.

    Raises:
        InputError: if it is neither.
    """
    if not studies:
        raise InputError("no images were given: name their folder with STUDIES=folder")
    if studies.startswith(("http://", "https://")):
        _check_archive(studies)
        return
    folder = Path(studies)
    if not folder.exists():
        raise InputError(f"the folder {studies} with the images does not exist: check the path")
    if not folder.is_dir():
        raise InputError(f"{studies} is a file, expected a folder with images: name its folder")
    if not os.access(folder, os.W_OK):
        raise InputError(f"MONAI Label keeps the labels in {studies}, which is not writable: change its permissions")
    content = [path.name for path in folder.iterdir() if path.name not in _OWN]
    if content and not any(name.endswith(ENDINGS) for name in content):
        raise InputError(
            f"there are no images in {studies}, expected files ending in {', '.join(_LOWER)}, not in subfolders: "
            "convert them; a DICOM series can come from a DICOMweb archive too"
        )


def _check_archive(address: str) -> None:
    if "googleapis.com" in address:  # MONAI Label handles its credentials
        return
    import requests
    from monailabel.config import settings

    user = (settings.MONAI_LABEL_DICOMWEB_USERNAME or "", settings.MONAI_LABEL_DICOMWEB_PASSWORD or "")
    parts = (address.rstrip("/"), settings.MONAI_LABEL_QIDO_PREFIX, "studies")
    try:
        answer = requests.get(
            "/".join(part for part in parts if part),
            params={"limit": 1},
            headers={"Accept": "application/dicom+json"},
            auth=user if all(user) else None,
            timeout=30,
        )
        answer.raise_for_status()
    except requests.HTTPError:
        raise InputError(
            f"{address} answers DICOMweb with status {answer.status_code}: check the password and the address "
            "(Orthanc's ends in /dicom-web)"
        ) from None
    except requests.RequestException as error:
        raise InputError(f"no archive answers at {address} ({type(error).__name__}): check that it runs") from None


def check_port(host: str, port: int) -> None:
    """Check that the server can listen at this address.

    Raises:
        InputError: if it cannot.
    """
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the server cannot listen at {host}:{port}, which is in use or not an address of this computer: choose "
            "another --port, which make calls PORT"
        ) from error
