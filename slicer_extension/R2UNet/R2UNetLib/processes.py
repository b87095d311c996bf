"""Background programs whose output arrives line by line while Slicer stays responsive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt


class LineProcess:
    """A program that is started, written to and listened to through Qt's event loop, without blocking.

    Args:
        on_output: Called with each line of standard output, without its line end.
        on_error_output: Called with each line of standard error, without its line end.
        on_end: Called once when the program has ended, with its exit code, or None if it crashed or did not start.
    """

    def __init__(
        self,
        on_output: Callable[[str], None],
        on_error_output: Callable[[str], None],
        on_end: Callable[[int | None], None],
    ) -> None:
        self._on_output = on_output
        self._on_error_output = on_error_output
        self._on_end = on_end
        self._process: qt.QProcess | None = None  # kept after its end, because it may still be sending signals
        self._output = b""
        self._error_output = b""
        self.running = False  # whether the program has been started and has not ended

    def start(self, program: str, arguments: Sequence[str], environment: qt.QProcessEnvironment | None = None) -> None:
        """Start the program.

        Args:
            program: Path of the executable.
            arguments: Its command-line arguments.
            environment: Its environment variables; None for those of Slicer.
        """
        self._output = self._error_output = b""
        process = self._process = qt.QProcess()
        if environment is not None:
            process.setProcessEnvironment(environment)
        # Signals are given by signature: in Qt 5 finished() is overloaded.
        process.connect("readyReadStandardOutput()", self._read_output)
        process.connect("readyReadStandardError()", self._read_error_output)
        process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self.running = True
        process.start(program, list(arguments))

    def write(self, line: str) -> None:
        """Write an ASCII line to the program's standard input."""
        if self.running:
            self._process.write(line.encode("ascii") + b"\n")

    def close_input(self) -> None:
        """Close the program's standard input."""
        if self.running:
            self._process.closeWriteChannel()

    def kill(self) -> None:
        """End the program at once; `on_end` follows."""
        if self.running:
            # Slicer's Python is a launcher with the real program as its child. Killing only reaches the launcher, but
            # both notice that their standard input closes.
            self._process.closeWriteChannel()
            self._process.kill()

    def wait(self, milliseconds: int) -> bool:
        """Block until the program has ended or the time is up; returns whether it has ended."""
        if self.running:
            self._process.waitForFinished(milliseconds)
        return not self.running

    def _read_output(self) -> None:
        if self.running:
            self._output = _give_lines(self._output + _data(self._process.readAllStandardOutput()), self._on_output)

    def _read_error_output(self) -> None:
        if self.running:
            data = self._error_output + _data(self._process.readAllStandardError())
            self._error_output = _give_lines(data, self._on_error_output)

    def _finished(self, code: int, status: object) -> None:
        self._read_output()
        self._read_error_output()
        self._end(int(code) if status == qt.QProcess.NormalExit else None)

    def _failed(self, error: object) -> None:
        if error == qt.QProcess.FailedToStart:  # other errors are followed by finished()
            self._end(None)

    def _end(self, code: int | None) -> None:
        if self.running:
            self.running = False
            self._on_end(code)


def _data(array: qt.QByteArray) -> bytes:
    data = array.data()
    return data if isinstance(data, bytes) else data.encode()  # PythonQt gives an empty str for an empty array


def _give_lines(data: bytes, take: Callable[[str], None]) -> bytes:
    """Pass on complete lines; returns the unfinished rest."""
    *lines, rest = data.split(b"\n")
    for line in lines:
        take(line.decode("utf-8", "replace").rstrip("\r"))
    return rest
