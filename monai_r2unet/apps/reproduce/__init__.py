"""The paper's tables reproduced: networks trained and tested under one protocol, compared with the paper.

``study`` defines the runs, ``workflows`` carries them out with the bundles' own configurations, ``records`` stores
their results, ``tables`` and ``drawing`` present them, ``session`` distributes the runs among processes.
"""
