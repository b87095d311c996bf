"""The parts of the node: settings, what counts as complete, who is refused, and what is delivered when."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_r2unet.errors import InputError
from tests.apps.node.node_process import settings_of
from tests.helpers.dicom_programs import PATIENT, free_port, running_orthanc, series_uid, storescu, write_ct_series
from tests.helpers.lung_examples import small_ct

pytest.importorskip("pynetdicom", reason='pynetdicom is not installed: pip install "monai-r2unet[node]"')

import pydicom

from monai_r2unet.apps.node.arrivals import Arrivals, Full
from monai_r2unet.apps.node.delivery import Delivery
from monai_r2unet.apps.node.receiver import Receiver
from monai_r2unet.apps.node.result import give_uids, read_header, uids_of
from monai_r2unet.apps.node.settings import Limits, Rule, Seconds, Series, Settings, read_settings
from monai_r2unet.apps.node.spool import Spool, key_of

LUNG = Path("lung")


def read(folder: Path, **changes: Any) -> Settings:
    """The settings of the tests, with changes; None takes something out."""
    content = {**settings_of(folder, LUNG, 1), **changes}
    (folder / "node.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return read_settings(folder / "node.json")


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"archive": None}, "the file has no archive"),
        ({"prot": 1}, r"the file has 'prot', expected ae_title, spool, senders, .*page"),
        ({"port": "104"}, "port is '104', expected a whole number"),
        ({"port": True}, "port is True, expected a whole number"),
        ({"port": 70000}, "port is 70000, expected at most 65535"),
        ({"ae_title": "A TITLE THAT IS LONG"}, "ae_title is 'A TITLE THAT IS LONG', expected 1 to 16 plain letters"),
        ({"senders": []}, "senders is empty, expected at least one"),
        ({"senders": {}}, "senders is {}, expected a list"),
        (
            {"senders": [{"ae_title": "CT", "address": "10.0.0"}]},
            r"senders\[0\]: address is '10.0.0', expected an IP address or a network",
        ),
        ({"rules": [{"bundle": "liver"}]}, r"rules\[0\]: unknown bundle 'liver'; available: chase_db1, drive, lung"),
        ({"rules": [{"bundle": "lung", "output": "nifti"}]}, "output is 'nifti', expected seg or rtstruct"),
        ({"rules": [{"bundle": "lung", "slices": [50]}]}, r"rules\[0\].slices is \[50\], expected a list of two"),
        ({"rules": [{"bundle": "lung", "slices": [9, 2]}]}, r"slices is \[9, 2\], expected the least number"),
        ({"seconds": {"after_release": -1}}, "seconds.after_release is -1, expected 0 or more"),
        ({"seconds": {"after_release": float("nan")}}, "seconds.after_release is nan, expected 0 or more"),
    ],
)
def test_wrong_settings_are_one_sentence(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^the settings .*node.json cannot be used: .*{sentence}"):
        read(tmp_path, **changes)


def test_settings_that_are_no_file_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path / "none.json")
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(InputError, match="are not JSON"):
        read_settings(tmp_path / "node.json")


def test_a_relative_spool_lies_beside_the_settings(tmp_path: Path) -> None:
    assert read(tmp_path, spool="here").spool == str(tmp_path / "here")


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"modality": "MR"}, False),
        ({"body_part": "HEAD"}, False),
        ({"series_description": "Topogram"}, False),
        ({"series_description": "THORAX 1.0 b70"}, True),
        ({"slices": 49}, False),
        ({"slices": 501}, False),
    ],
)
def test_a_rule_looks_at_modality_body_part_description_and_slices(changes: dict[str, Any], fits: bool) -> None:
    rule = Rule("lung", modality="CT", body_part="chest", series_description="*thorax*", slices=(50, 500))
    series = {"modality": "CT", "body_part": "CHEST", "series_description": "Thorax 5.0", "slices": 50, **changes}
    assert rule.fits(Series(**series)) is fits


# ---- what is complete ------------------------------------------------------------------------------------------------

SHORT = Seconds(after_release=0.0, after_silence=0.3)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def arriving(spool: Spool, seconds: Seconds = SHORT, **limits: Any) -> Arrivals:
    return Arrivals(spool, Limits(**{"free_gb": 0.0, **limits}), seconds)


def store(arrivals: Arrivals, *slices: int, sender: int = 1, series: str = "1.2") -> None:
    for number in slices:
        arrivals.store(series, f"{series}.{number}", b"slice", sender)


def waiting(spool: Spool, series: str = "1.2") -> int | None:
    """How many slices wait to be segmented, if the series does."""
    slices = spool.waiting / key_of(series) / "slices"
    return len(list(slices.iterdir())) if slices.is_dir() else None


def make_result(spool: Spool, *, deliver: bool) -> None:
    folder = spool.next()
    assert folder is not None
    (spool.workspace(folder.name) / "object.dcm").write_bytes(b"result")
    spool.made(folder, {"series": "1.2", "object": "1.2.3"})
    if deliver:
        spool.delivered(folder.name, state="sent")


def test_a_series_is_complete_when_all_its_senders_have_released(spool: Spool) -> None:
    arrivals = arriving(spool)
    store(arrivals, 1, 2)
    store(arrivals, 3, sender=2)
    for sender, expected in ((1, None), (2, 3)):
        arrivals.end(sender, properly=True)
        arrivals.settle()
        assert waiting(spool) == expected


def test_or_when_it_is_silent_for_long_while_the_association_stays_open(spool: Spool) -> None:
    arrivals = arriving(spool)
    store(arrivals, 1, 2)
    arrivals.settle()
    assert waiting(spool) is None
    time.sleep(0.4)
    arrivals.settle()
    assert waiting(spool) == 2


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_cut_off_waits_for_a_sender_who_releases(restarted: bool, spool: Spool) -> None:
    arrivals = arriving(spool)
    store(arrivals, 1, 2)
    arrivals.end(1, properly=False)
    if restarted:
        arrivals = arriving(Spool(spool.folder))
    time.sleep(0.4)
    arrivals.settle()
    assert waiting(spool) is None
    store(arrivals, 2, 3, sender=2)
    arrivals.end(2, properly=True)
    arrivals.settle()
    assert waiting(spool) == 3


def test_what_was_open_when_the_node_was_killed_is_complete_after_silence(spool: Spool) -> None:
    store(arriving(spool), 1, 2)
    arrivals = arriving(Spool(spool.folder))
    arrivals.settle()
    assert waiting(spool) is None
    time.sleep(0.4)
    arrivals.settle()
    assert waiting(spool) == 2


def test_a_refused_slice_cuts_the_series_off_although_its_sender_releases(spool: Spool) -> None:
    arrivals = arriving(spool, slices=2)
    with pytest.raises(Full, match="the series has 2 slices, and 2 are allowed"):
        store(arrivals, 1, 2, 3)
    arrivals.end(1, properly=True)
    arrivals.settle()
    assert waiting(spool) is None
    assert (spool.incoming / key_of("1.2") / "cut").exists()


def test_limits_of_series_and_of_the_disk(spool: Spool) -> None:
    arrivals = arriving(spool, series=1)
    store(arrivals, 1)
    with pytest.raises(Full, match="1 series are being received or wait"):
        store(arrivals, 1, series="1.3")
    with pytest.raises(Full, match=r"GB of the disk are free, and 1e\+06 GB have to stay free"):
        store(arriving(spool, free_gb=1e6), 2)


# ---- nothing twice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deliver", [False, True])
def test_the_same_series_again_is_dropped(deliver: bool, spool: Spool) -> None:
    arrivals = arriving(spool)
    for sender in (1, 2):
        store(arrivals, 1, 2, sender=sender)
        arrivals.end(sender, properly=True)
        arrivals.settle()
        if sender == 1:
            make_result(spool, deliver=deliver)
    assert waiting(spool) is None
    assert not any(spool.incoming.iterdir())
    assert spool.next() is None


def test_more_slices_are_joined_before_segmentation_and_dropped_after_it_unless_all_come(spool: Spool) -> None:
    arrivals = arriving(spool)
    for sender, slices in enumerate([(1,), (2,)]):
        store(arrivals, *slices, sender=sender)
        arrivals.end(sender, properly=True)
        arrivals.settle()
    assert waiting(spool) == 2
    make_result(spool, deliver=True)
    for sender, slices, expected in ((3, (3,), None), (4, (1, 2, 3), 3)):
        store(arrivals, *slices, sender=sender)
        arrivals.end(sender, properly=True)
        arrivals.settle()
        assert waiting(spool) == expected


def test_a_series_whose_result_was_made_just_before_the_node_was_killed_is_not_segmented_again(spool: Spool) -> None:
    arrivals = arriving(spool)
    store(arrivals, 1, 2)
    arrivals.end(1, properly=True)
    arrivals.settle()
    folder = spool.waiting / key_of("1.2")
    shutil.copytree(folder, spool.folder / "copy")
    make_result(spool, deliver=False)
    (spool.folder / "copy").rename(folder)
    assert Spool(spool.folder).next() is None
    assert waiting(spool) is None


def test_a_result_has_the_same_uids_whenever_it_is_made(tmp_path: Path) -> None:
    slices = ["b.dcm", "a.dcm"]
    uids = uids_of(Rule("lung"), slices)
    assert uids == uids_of(Rule("lung"), reversed(slices))
    others = [uids_of(Rule("lung", output="rtstruct"), slices), uids_of(Rule("lung"), slices[:1])]
    assert len({*uids, *others[0], *others[1]}) == 6
    (path,) = write_ct_series(tmp_path / "ct", small_ct(slices=1)).iterdir()
    give_uids(path, uids)
    data = pydicom.dcmread(path)
    assert (data.SeriesInstanceUID, data.SOPInstanceUID) == uids
    assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


def test_messages_do_not_name_the_patient(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "case" / "slices", small_ct(slices=2), patient="Doe^Jane")
    header = read_header(tmp_path / "case")
    assert header.series == Series("CT", "CHEST", "Thorax 5.0", 2)
    assert header.hidden(["of Doe^Jane", "Jane Doe, LCTSC_008, CT", 7]) == [
        "of [patient]",
        "[patient] [patient], [patient], CT",
        7,
    ]


# ---- receiver and delivery, with real programs -----------------------------------------------------------------------


@pytest.fixture
def receive(tmp_path: Path, spool: Spool) -> Callable[..., int]:
    """Start a receiver with changed settings; returns its port."""

    def start(**changes: Any) -> int:
        settings = read(tmp_path, **changes)
        receiver = Receiver(settings, Arrivals(spool, settings.limits, settings.seconds))
        receiver.start()
        return receiver.port

    return start


def send(port: int, *paths: Path) -> int:
    return subprocess.run(storescu(port, *paths), capture_output=True).returncode


@pytest.mark.parametrize(
    ("address", "accepted"), [("127.0.0.1", True), ("127.0.0.0/8", True), ("10.0.0.1", False), ("::1", False)]
)
def test_an_address_is_on_the_list_or_refused(
    address: str, accepted: bool, receive: Callable[..., int], spool: Spool, tmp_path: Path
) -> None:
    series = write_ct_series(tmp_path / "ct", small_ct(slices=2))
    port = receive(senders=[{"ae_title": "SCANNER", "address": address}])
    assert (send(port, series) == 0) is accepted
    assert len(list(spool.incoming.glob("*/slices/*"))) == 2 * accepted


def test_what_is_received_is_what_was_sent(receive: Callable[..., int], spool: Spool, tmp_path: Path) -> None:
    series = write_ct_series(tmp_path / "ct", small_ct(slices=2))
    assert send(receive(), series) == 0
    (folder,) = spool.incoming.iterdir()
    assert (folder / "series").read_text() == series_uid(1)
    sent = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, series.iterdir())}
    received = [pydicom.dcmread(path) for path in (folder / "slices").iterdir()]
    assert len(received) == 2
    assert all(data == sent[data.SOPInstanceUID] for data in received)


def test_an_object_that_is_too_large_ends_the_association(
    receive: Callable[..., int], spool: Spool, tmp_path: Path
) -> None:
    series = write_ct_series(tmp_path / "ct", small_ct(slices=2))
    large = pydicom.dcmread(series / "001.dcm")
    large.PixelData = bytes(2 * 1024 * 1024)
    large.Rows = large.Columns = 1024
    large.save_as(series / "001.dcm")
    port = receive(limits={"object_mb": 1, "free_gb": 0.0})
    assert send(port, series / "000.dcm", series / "001.dcm") != 0
    deadline = time.monotonic() + 30
    while not list(spool.incoming.glob("*/cut")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(list(spool.incoming.glob("*/slices/*"))) == 1


def test_a_port_that_is_taken_is_named(receive: Callable[..., int]) -> None:
    port = receive()
    with pytest.raises(InputError, match=rf"nothing can be received on 127.0.0.1:{port} \(Address already in use\)"):
        receive(port=port)


@pytest.fixture
def result(spool: Spool, tmp_path: Path) -> Path:
    """The folder of a result that is to be delivered."""
    store(arrivals := arriving(spool), 1)
    arrivals.end(1, properly=True)
    arrivals.settle()
    make_result(spool, deliver=False)
    (folder,) = spool.sending.iterdir()
    (slice_,) = write_ct_series(tmp_path / "ct", small_ct(slices=1)).iterdir()
    slice_.replace(folder / "object.dcm")
    return folder


def test_a_result_is_delivered_once_whatever_happens(result: Path, spool: Spool, tmp_path: Path) -> None:
    """The archive is down at first; and the node is killed after sending, before it noted so."""
    shutil.copytree(result, tmp_path / "copy")
    port = free_port()
    archive = {"ae_title": "ARCHIVE", "address": "127.0.0.1", "port": port}
    delivery = Delivery(read(tmp_path, archive=archive), spool)
    assert [delivery.step() for _ in range(5)] == [5, 15, 60, 300, 300]
    assert result.is_dir()
    with running_orthanc(tmp_path / "orthanc", DicomPort=port) as orthanc:
        for _ in range(2):
            assert delivery.step() == 30
            assert not result.exists()
            (record,) = spool.records.iterdir()
            assert json.loads(record.read_text())["state"] == "sent"
            (found,) = orthanc.instances("CT")
            assert str(found.PatientName) == PATIENT
            if not result.exists():
                shutil.copytree(tmp_path / "copy", result)


def test_what_the_archive_refuses_is_given_up(result: Path, spool: Spool, tmp_path: Path) -> None:
    data = pydicom.dcmread(result / "object.dcm")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.826.0.1.3680043.8.498.99"
    data.save_as(result / "object.dcm")
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        archive = {"ae_title": "ARCHIVE", "address": "127.0.0.1", "port": orthanc.dicom_port}
        delivery = Delivery(read(tmp_path, archive=archive), spool)
        for _ in range(5):
            assert result.exists()
            delivery.step()
    assert not result.exists()
    (record,) = spool.records.iterdir()
    found = json.loads(record.read_text())
    assert found["state"] == "failed"
    assert found["message"].endswith("refused 1.2.3 with status 0x0122, 5 times")
