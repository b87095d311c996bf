"""The viewer: 3D Slicer's views and the worker behind a web page. `docs/how-to/viewer.md` is the user's guide.

It needs the extra ``viewer``. The worker process does the computing; this package only displays.
"""
