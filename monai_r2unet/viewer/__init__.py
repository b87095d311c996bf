"""The web viewer: 3D Slicer's views and the worker behind a page in a browser. `docs/viewer.md` is for its users.

It needs the extra ``viewer``. What computes is the worker process; here is only what shows.
"""
