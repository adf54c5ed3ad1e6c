"""Record the runs of a script that cron starts.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/nightly_job.py

Leaves: report_sent, job_run, job.nightly-report

What is queued is delivered when the script ends, however it ends.
"""

import indelible
from indelible.hooks.jobs import job


@job("nightly-report")
def report() -> None:
    indelible.capture("report_sent", distinct_id="user_42", properties={"pages": 12})


report()
