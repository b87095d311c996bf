"""The node: receiver, segmentation, delivery and page around one spool."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from monai_r2unet.apps.node.arrivals import Arrivals
from monai_r2unet.apps.node.delivery import Delivery
from monai_r2unet.apps.node.page import serve_page, state_of, token_of
from monai_r2unet.apps.node.receiver import Receiver
from monai_r2unet.apps.node.segmenting import Segmenting
from monai_r2unet.apps.node.settings import Settings
from monai_r2unet.apps.node.spool import Spool
from monai_r2unet.errors import InputError, OutputError

__all__ = ["serve"]

AFTER_TROUBLE = 15.0  # seconds until a thread goes on, as when the disk is full
HOUR = 3600.0

logger = logging.getLogger(__name__)


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal comes.

    Args:
        settings: The settings.
        announce: Called with the address of the page once everything runs.

    Raises:
        InputError: another node uses the spool, or an address cannot be used.
        OutputError: the spool cannot be made.
    """
    _keep_libraries_quiet()
    stopping, called = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    folder = Path(settings.spool)
    lock, spool = _lock(folder), Spool(folder)
    arrivals = Arrivals(spool, settings.limits, settings.seconds)
    delivery = Delivery(settings, spool)
    segmenting = Segmenting(settings, spool, arrivals, called.set)
    receiver = Receiver(settings, arrivals)
    address = serve_page(
        settings.page, token_of(spool), lambda: state_of(settings.ae_title, spool, dict(segmenting.working))
    )
    receiver.start()
    logger.info("%s receives on %s:%d", settings.ae_title, settings.host, receiver.port)

    def forget() -> float:
        spool.forget()
        return HOUR

    for step, waking in ((segmenting.step, threading.Event()), (delivery.step, called), (forget, threading.Event())):
        threading.Thread(target=_repeat, args=(step, waking), daemon=True).start()
    announce(address)
    stopping.wait()
    logger.info("ends")  # as a killed node does, which loses nothing; the worker ends with it
    lock.release()


def _repeat(step: Callable[[], float], waking: threading.Event) -> None:
    """Do a step again and again, whatever goes wrong in one."""
    while True:
        try:
            pause = step()
        except OSError as error:
            logger.warning("%s", error if isinstance(error, OutputError) else f"{error.strerror or error}")
            pause = AFTER_TROUBLE
        except Exception as error:  # its text may quote a header
            where = traceback.extract_tb(error.__traceback__)[-1]
            logger.error("unexpected %s in %s, line %s", type(error).__name__, Path(where.filename).name, where.lineno)
            pause = AFTER_TROUBLE
        waking.wait(pause)
        waking.clear()


def _lock(folder: Path) -> FileLock:
    """Make the folder of the spool, and see to it that no other process uses it."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another node uses the spool {folder}: end it first, or choose another folder") from error
    except OSError as error:
        raise OutputError(folder, error) from error
    return lock


def _keep_libraries_quiet() -> None:
    """Neither pydicom's warnings nor pynetdicom's log may quote a header."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
