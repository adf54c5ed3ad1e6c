"""Flask's development server, on a socket of the file system: ``python -m … ADDRESS``."""

import sys

from werkzeug.serving import run_simple

from tests.hooks.gunicorn_site import app

run_simple(f"unix://{sys.argv[1]}", 0, app, threaded=True)
