"""One module a chapter: its configurations and its experiments, nothing else.

Folders named in $SNNREPRO_PAPERS are searched too, so that a paper can be tried before it moves in here.
"""

import os

__path__ += [folder for folder in os.environ.get("SNNREPRO_PAPERS", "").split(os.pathsep) if folder]
