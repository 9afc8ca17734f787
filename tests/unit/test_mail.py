"""One file a mail."""

from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from app.mail.send import FileBackend, compose


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.EMAIL_FILE_PATH = str(tmp_path / "mail")
    settings.EMAIL_BACKEND = "app.mail.send.FileBackend"
    return tmp_path / "mail"


def test_each_mail_is_a_file_of_its_own(folder: Path) -> None:
    user = type("User", (), {"username": "kim"})
    for number in range(3):
        compose(template="accounts/welcome", context={"user": user}, to=f"{number}@b.kr", key=f"k{number}").send()
    mails = [message_from_bytes(path.read_bytes()) for path in sorted(folder.iterdir())]
    assert [mail["To"] for mail in mails] == ["0@b.kr", "1@b.kr", "2@b.kr"]
    assert mails[0]["Message-ID"] == "<k0@example.com>"
    assert [part.get_content_type() for part in mails[0].walk()][1:] == ["text/plain", "text/html"]


def test_a_folder_that_cannot_be_written_is_an_error_unless_told_otherwise(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "mail").write_text("in the way")
    settings.EMAIL_FILE_PATH = str(tmp_path / "mail")
    message = compose(template="accounts/welcome", context={}, to="a@b.kr", key="k")
    with pytest.raises(OSError):
        FileBackend().send_messages([message])
    assert FileBackend(fail_silently=True).send_messages([message]) == 0
