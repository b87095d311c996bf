"""The viewer: 3D Slicer's views and the worker behind a page in a browser. `docs/how-to/viewer.md` is for users.

It needs the extra ``viewer``. What computes is the worker process; here is only what shows.
"""
