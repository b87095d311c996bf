"""Receives series by C-STORE, from those who may send."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import pydicom
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from monai_r2unet.apps.node.arrivals import Arrivals, Full
from monai_r2unet.apps.node.settings import Sender, Settings
from monai_r2unet.errors import InputError
from monai_r2unet.images.dicom_files import can_be_decoded

__all__ = ["Receiver"]

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000  # PS3.4, B.2.3
REJECTED = (0x01, 0x01, 0x03)  # permanently, by the user, as the calling title is not recognised
UIDS = ("SeriesInstanceUID", "SOPInstanceUID")
PDU = 1 << 17  # bytes
MEGABYTE = 10**6

logger = logging.getLogger(__name__)


class ListedOnly(ThreadedAssociationServer):
    """Closes connections from addresses that are not on the list, before anything is read from them."""

    senders: Sequence[Sender] = ()

    def verify_request(self, request: object, client_address: tuple[str, int]) -> bool:
        """Whether to talk to a client."""
        listed = any(sender.is_at(client_address[0]) for sender in self.senders)
        if not listed:
            logger.warning("refused: %s is not on the list of senders", client_address[0])
        return listed


class Receiver:
    """The store SCP. It accepts every storage class, as scanners send reports and doses in between; rules ignore them.

    Args:
        settings: Who may send, and how much.
        arrivals: What keeps the slices.
    """

    def __init__(self, settings: Settings, arrivals: Arrivals) -> None:
        self.settings, self.arrivals = settings, arrivals
        self.numbers = itertools.count(1)
        self.associations: dict[Any, int] = {}  # those that are open
        self.received: dict[Any, int] = {}  # bytes of the message that is being received
        self.server: Any = None

    def start(self) -> None:
        """Listen, in threads of its own.

        Raises:
            InputError: the address is taken, or is not this machine's.
        """
        settings = self.settings
        ae = AE(ae_title=settings.ae_title)
        ae.require_called_aet = True
        ae.maximum_associations = settings.limits.associations
        ae.maximum_pdu_size = PDU
        ae.network_timeout = 2 * settings.seconds.after_silence + 60  # later than a silent series counts as complete
        syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if can_be_decoded(syntax)]
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(context.abstract_syntax, syntaxes)
        ae.add_supported_context(Verification)
        handlers: list[tuple[Any, Callable[..., Any]]] = [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_DATA_RECV, self._count),
            (evt.EVT_DIMSE_RECV, lambda event: self.received.pop(event.assoc, None)),
            (evt.EVT_RELEASED, lambda event: self._end(event, properly=True)),
            (evt.EVT_ABORTED, lambda event: self._end(event, properly=False)),  # lost connections, too
        ]
        try:
            self.server = ae.make_server((settings.host, settings.port), evt_handlers=handlers, server_class=ListedOnly)
        except OSError as error:
            raise InputError(
                f"nothing can be received on {settings.host}:{settings.port} ({error.strerror}): choose another host "
                "or port in the settings, or end the program that listens there"
            ) from error
        self.server.senders = settings.senders
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server.socket.getsockname()[1])

    def _admit(self, event: Any) -> None:
        """Reject an association of somebody who is not on the list."""
        caller = event.assoc.requestor
        title = caller.primitive.calling_ae_title.strip()
        if any(sender.ae_title == title and sender.is_at(caller.address) for sender in self.settings.senders):
            self.associations[event.assoc] = next(self.numbers)
        else:
            logger.warning("refused: %r at %s is not on the list of senders", title, caller.address)
            event.assoc.acse.send_reject(*REJECTED)

    def _count(self, event: Any) -> None:
        """Abort an association in the middle of an object that is too large: it would fill the memory."""
        if event.assoc not in self.associations:
            return
        size = self.received.get(event.assoc, 0) + len(event.data)
        self.received[event.assoc] = size
        if size > self.settings.limits.object_mb * MEGABYTE + PDU:
            logger.warning("an object is larger than %d MB: association aborted", self.settings.limits.object_mb)
            event.assoc.abort()

    def _store(self, event: Any) -> int:
        """Keep a slice; returns the status of the C-STORE."""
        data = event.encoded_dataset()
        try:
            header = pydicom.dcmread(BytesIO(data), specific_tags=list(UIDS), stop_before_pixels=True)
            series, instance = (str(header[name].value) for name in UIDS)
        except Exception as error:  # whatever pydicom raises on what is no data set
            logger.warning("an object without readable UIDs is refused (%s)", type(error).__name__)
            return CANNOT_UNDERSTAND
        try:
            self.arrivals.store(series, instance, data, self.associations[event.assoc])
        except Full as error:
            logger.warning("series %s: a slice is refused: %s", series, error)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _end(self, event: Any, *, properly: bool) -> None:
        self.received.pop(event.assoc, None)
        number = self.associations.pop(event.assoc, None)
        if number is not None:
            self.arrivals.end(number, properly=properly)
