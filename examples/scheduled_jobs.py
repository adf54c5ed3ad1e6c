"""Record the runs of APScheduler's jobs, and those that did not happen.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/scheduled_jobs.py

Leaves: job_run, job.tidy-up, job.too-late
"""

import threading
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler

from indelible import Indelible
from indelible.hooks.apscheduler import watch

client = Indelible()
scheduler = watch(BackgroundScheduler(timezone=UTC), client)
tidied = threading.Event()

scheduler.add_job(tidied.set, id="tidy-up")
an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
scheduler.add_job(print, "date", run_date=an_hour_ago, id="too-late", misfire_grace_time=1)

scheduler.start()
tidied.wait(10)
scheduler.shutdown()  # waits for what runs
client.shutdown()
