"""Who gets in, and what can be opened: requests as a stranger would make them."""

from __future__ import annotations

import os
import sys

import pytest

from monai_r2unet.apps.viewer.folder import Folder, check_one_file
from monai_r2unet.apps.viewer.texts import readable
from monai_r2unet.errors import InputError

PATHS = ["/", "/index.html", "/viewer/page.js", "/download/mask.nii.gz", "/upload/0123456789/a.nrrd"]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    from tests.apps.viewer.viewer_process import Viewer

    folder = tmp_path_factory.mktemp("images")
    worker = folder / "none"
    worker.write_text("#!/bin/sh\ncat >/dev/null\n")
    worker.chmod(0o755)
    started = Viewer.with_worker(worker, folder, limit=1000)
    yield started
    started.close()


def test_without_the_token_nothing_answers(viewer):
    wrong = "x" * len(viewer.token)
    for path in PATHS:
        for given in ("", f"?token={wrong}", "?token=", f"?token={viewer.token[:-1]}", "?token=%C3%A4"):
            status, text, _ = viewer.request(path + given)
            assert status == 403
            assert viewer.token not in text
    assert viewer.request("/upload/0123456789/a.nrrd", "PUT", body=b"x")[0] == 403
    assert viewer.websocket() == 403
    assert viewer.websocket(f"/ws?token={wrong}") == 403


def test_the_token_gives_a_cookie_that_scripts_cannot_read(viewer):
    status, _, headers = viewer.request(f"/index.html?token={viewer.token}")
    assert status == 200
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    given = {"Cookie": cookie.split(";")[0]}
    assert viewer.request("/viewer/page.js", headers=given)[0] == 200
    assert viewer.websocket(headers=given) == 101
    assert "connect-src 'self'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was given this machine's address
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},  # another program on this machine
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_other_sites_are_refused_even_with_the_token(viewer, headers):
    assert viewer.request(f"/index.html?token={viewer.token}", headers=headers)[0] == 403
    assert viewer.websocket(f"/ws?token={viewer.token}", headers=headers) == 403


def test_its_own_page_and_other_names_of_this_machine_get_in(viewer):
    for headers in (
        {"Origin": f"http://127.0.0.1:{viewer.port}"},
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},  # through a tunnel
        {"Host": "[::1]:9000"},
    ):
        assert viewer.request(f"/index.html?token={viewer.token}", headers=headers)[0] == 200


def test_uploads_stay_in_their_place_and_below_the_limit(viewer):
    token = f"?token={viewer.token}"
    assert viewer.request(f"/upload/0123456789/a.nii{token}", "PUT", body=b"x" * 900)[0] == 201
    assert viewer.request(f"/upload/0123456789/a.nii{token}", "PUT", body=b"y")[0] == 413  # never over what is there
    status, text, _ = viewer.request(f"/upload/abcdefabcdef/b.nii{token}", "PUT", body=b"x" * 1001)
    assert status == 413
    assert "--upload-limit" in text
    for place in ("/upload/..%2f..%2fx0/a.nii", "/upload/0123456789/..%2f..%2fa.nii", "/upload/0123456789/.hidden"):
        viewer.request(place + token, "PUT", body=b"x")
    home = viewer.left_behind()[0]
    kept = sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())
    assert all(name == "lock" or name.startswith("uploads/0123456789/") for name in kept)
    assert not list(viewer.temporary.glob("*.nii"))
    assert home.stat().st_mode & 0o077 == 0


def test_downloads_are_only_results(viewer):
    for name in ("lock", "..%2flock", "%2fetc%2fpasswd"):
        assert viewer.request(f"/download/{name}?token={viewer.token}")[0] == 404


def test_only_files_of_the_folder_are_found(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "series").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.nii").write_bytes(b"x")
    (inside / "own.nii").write_bytes(b"x")
    (inside / "link.nii").symlink_to(outside / "secret.nii")
    (inside / "way").symlink_to(outside)
    (inside / "within.nii").symlink_to(inside / "own.nii")
    (inside / "series" / "1.dcm").symlink_to(outside / "secret.nii")
    folder = Folder(inside)
    assert folder.find("own.nii") == folder.find("within.nii") == folder.find(str(inside / "own.nii"))
    for path in (
        "../outside/secret.nii",
        str(outside / "secret.nii"),
        "link.nii",
        "way/secret.nii",
        "series",
        "../nothing",
        "/etc/passwd",
        "~/x",
        "a\0b",
    ):
        with pytest.raises(InputError) as refused:
            folder.find(path)
        assert "\n" not in str(refused.value)
    assert folder.suggest("") == ["link.nii", "own.nii", "series/", "way/", "within.nii"]
    assert folder.suggest("../") == folder.suggest("way/") == []
    assert folder.suggest("Ser") == ["series/"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_files_are_found_by_names_that_cannot_be_shown_or_typed(tmp_path):
    odd = os.fsdecode(b"M\xfcller")
    folder = Folder(tmp_path)
    for name in (odd, f"{odd}/{odd}.nii", " series ", "y" * 255, "肺.nii", r"\x41.nii"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x") if name.endswith("nii") else path.mkdir()
        assert folder.find(name) == folder.find(str(path)) == path
        assert folder.find(readable(name)) == path
    assert folder.suggest("M") == [r"M\xfcller/"]
    assert folder.suggest(r"M\xfcller/") == [r"M\xfcller/M\xfcller.nii"]
    for name in (f"{odd}.nrrd", "y" * 256, "a\0b"):
        with pytest.raises(InputError):
            folder.find(name)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.nrrd", b"NRRD0004\ntype: short\ndata file: /etc/passwd\n\n"),
        ("a.nhdr", b"NRRD0004\nDataFile: ../x.raw\n\n"),
        ("a.mhd", b"NDims = 3\nElementDataFile = /etc/passwd\n"),
        ("a.mha", b"NDims = 3\nElementDataFile = LIST\n/etc/passwd\n"),
        ("a.mha", b"NDims = 3\n elementdatafile : /etc/passwd\nElementDataFile = LOCAL\n"),
        ("a.nrrd", b"NRRD0004\n" + b"# long\n" * 200_000 + b"data file: /etc/passwd\n\n"),
        ("a.nrrd", b"NRRD0004\r\ndata file: /etc/passwd\r\n"),
    ],
)
def test_headers_that_name_other_files_are_refused(tmp_path, name, header):
    (tmp_path / name).write_bytes(header)
    with pytest.raises(InputError, match="does not hold its own voxels"):
        check_one_file(tmp_path / name)


def test_headers_with_their_voxels_pass(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: short\n\ndata file: voxels may look like that\n")
    (tmp_path / "a.mha").write_bytes(b"NDims = 3\r\nElementDataFile = LOCAL\r\nElementDataFile = x\n")
    check_one_file(tmp_path / "a.nrrd")
    check_one_file(tmp_path / "a.mha")


def test_nothing_is_left_when_the_viewer_ends(viewer, tmp_path):
    from tests.apps.viewer.viewer_process import Viewer

    killed = Viewer(viewer.command, tmp_path)
    (left,) = killed.left_behind()
    killed.process.kill()
    killed.process.wait(30)
    assert left.is_dir()
    second = Viewer(viewer.command, tmp_path)
    assert left not in second.left_behind(), "the next viewer removes what a killed one left"
    third = Viewer(viewer.command, tmp_path)
    assert len(third.left_behind()) == 2, "but not what another one still uses"
    for ended in (second, third):
        assert ended.stop() == 0
    assert not third.left_behind()
    for one in (killed, second, third):
        one.close()
